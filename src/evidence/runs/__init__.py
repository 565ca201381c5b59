"""Computes one run: it locates the record, locks it, builds the parts, resumes, fits, scores and finishes.

It also notes the code and the hardware that compute the run, and draws the run's figures.
"""
