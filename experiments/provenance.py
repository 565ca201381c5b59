"""Where a figure comes from: the columns that each row of a results.csv has."""

from datetime import UTC, datetime

import torch

from evidence import fingerprint


def here(device: torch.device) -> dict[str, str]:
    """machine, date and commit of what is measured now, on this device."""
    facts = fingerprint.provenance()
    commit = facts["git_commit"][:7] + ("+" if facts["git_dirty"] == "true" else "")
    today = datetime.now(UTC).date().isoformat()
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else facts["processor"]
    return {"machine": machine, "date": today, "commit": commit}
