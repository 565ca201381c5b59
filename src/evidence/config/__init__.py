"""What a run may be told: typed settings, their limits, one-line errors, and every job of a command line
composed and checked before torch is imported.
"""
