"""A run's life: locate, lock, build, resume, fit, score, finish; by which code, on which device, with which
figures.
"""
