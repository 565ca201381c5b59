"""Plans a sweep, estimates its time, keeps the notes of its jobs, and prints its table."""

from evidence.sweeps.notes import JobNotes, Note

__all__ = ["JobNotes", "Note"]
