"""Types the sections of a run's config, one module for each kind: keys, types, bounds and traits.

A new section is a class in the module of its kind. `by_target` finds it by the `_target_` that it declares.
"""
