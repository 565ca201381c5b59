"""A sweep as a whole: what stands and how long the rest takes, the notes its jobs leave, the table at its end."""

from evidence.sweeping.ledger import Ledger, Note

__all__ = ["Ledger", "Note"]
