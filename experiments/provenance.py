"""Where a figure comes from: the columns that each row of a results.csv has."""

from datetime import UTC, datetime

from evidence import fingerprint


def here() -> dict[str, str]:
    """machine, date and commit of what is measured now."""
    facts = fingerprint.provenance()
    commit = facts["git_commit"][:7] + ("+" if facts["git_dirty"] == "true" else "")
    today = datetime.now(UTC).date().isoformat()
    return {"machine": facts["processor"], "date": today, "commit": commit}
