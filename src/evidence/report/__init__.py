"""Runs as a DataFrame, what they say about published claims, and the page that shows it."""

from evidence.report.choosing import choose
from evidence.report.frame import runs

__all__ = ["choose", "runs"]
