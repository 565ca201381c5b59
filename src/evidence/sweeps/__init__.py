"""A sweep as a whole: what stands and how long the rest takes, the notes its jobs leave, the table at its end."""

from evidence.sweeps.notes import JobNotes, Note

__all__ = ["JobNotes", "Note"]
