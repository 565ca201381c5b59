"""A sweep: the plan and the time it takes, the notes that its jobs leave, the table at its end."""

from evidence.sweeps.notes import JobNotes, Note

__all__ = ["JobNotes", "Note"]
