"""Runs as a DataFrame, what they say about published claims, and the page that shows it."""

from evidence.report.frame import runs
from evidence.report.selection import choose

__all__ = ["choose", "runs"]
