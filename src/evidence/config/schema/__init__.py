"""The sections of a run's config, a module a kind: keys, types and bounds, and what each says of itself.

A new section is a class beside its like: `by_target` finds it by the `_target_` that it declares.
"""
