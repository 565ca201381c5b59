"""Keeps a run's folder: the record, metrics, checkpoints, log-weights and identity.

A crash leaves each file whole or absent.
"""
