"""Reads runs as a DataFrame, compares them with published claims, and writes the page."""

from evidence.report.frame import runs
from evidence.report.selection import choose

__all__ = ["choose", "runs"]
