"""Tries a model and an objective on a copy before training.

It checks what they return, whether that is a function of the noise, and what state no checkpoint keeps.
"""
