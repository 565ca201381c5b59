"""Finished runs as report.runs gives them, that nobody has run: alike where nothing but their seed was changed."""

import hashlib
import json
from typing import Any

import pandas as pd

from evidence.records.identity import VERSION
from evidence.report.compare import length

STEPS_A_PASS = 2980  # of MNIST
NOT_OF_A_CELL = {"seed", "date", "ended", "record", "run", "folder", "init_from", "mixed", "git_commit"}
NOT_OF_A_CELL |= {"git_dirty", "device", "processor", "code_digest", "data_digest", "url"}
NOT_OF_A_CELL |= {"code", "code_package", "version_torch"}
CODE = {"evidence": "c0de222222222222", "torch": "2.15.0", "layers": "c0de333333333333"}


def made_up(**changes: Any) -> dict[str, Any]:
    """A finished run of Table 1, but for the changes; None takes a tag or a param away."""
    run: dict[str, Any] = {
        "objective": "iwae",
        "variant": "num_exact=4",
        "k": 50,
        "model": "one_layer",
        "data": "mnist",
        "seed": 0,
        "stages": "8",
        "eval_samples": 5000,
        "eval_images": 10_000,
        "test/nll": 84.8,
        "test/nll_se": 0.2,
        "test/active_units": 25.0,
        "test/active_units_1": 25.0,
        "device": "cpu",
        "processor": "Fast, 2 threads",
        "git_commit": "0123456789",
        "git_dirty": "false",
        "date": "2026-01-01",
        "trainer.learning_rate": "0.001",
        "identity_version": str(VERSION),
        "code_digest": "c0de000000000000",
        "code_package": "c0de111111111111",
        "code": json.dumps(CODE),
        "version_torch": "2.15.0",
        "data_digest": "da7a000000000000",
        "mixed": None,
        **changes,
    }
    passes, words = length(run["stages"])
    steps = int(words.split()[0].replace(",", "")) if passes is None else passes * STEPS_A_PASS
    cell = {key: value for key, value in run.items() if key not in NOT_OF_A_CELL and "/" not in key}
    name = "-".join(str(run[key]) for key in ("objective", "k", "stages", "seed", "date"))
    added = {
        "run": name,
        "record": f"record of {name}",
        "folder": f"outputs/{name}",
        "ended": f"{run['date']}T12:00:00.000+00:00",
        "steps": steps,
        "cell_identity": hashlib.sha256(json.dumps(cell).encode()).hexdigest()[:16],
    }
    return {**added, **run}


def frame(*made: dict[str, Any]) -> pd.DataFrame:
    """A row for each of these changes."""
    return pd.DataFrame([made_up(**changes) for changes in made])
