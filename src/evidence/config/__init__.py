"""Composes and checks the settings of a run: types, limits, and one-line errors.

Every job of a command line is composed and checked before torch is imported.
"""
