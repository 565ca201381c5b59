"""docs/objectives.md has every objective that can be chosen, with all that a reader needs to choose it."""

import re

import documents
import pytest

PAGE = (documents.ROOT / "docs" / "objectives.md").read_text()
NAMES = sorted(path.stem for path in (documents.ROOT / "conf" / "objective").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_has_a_formula_a_source_its_cost_and_advice(name: str) -> None:
    text = documents.section(PAGE, name)
    assert "```math" in text
    for word in ("Source", "Cost", "Advice"):
        assert f"- **{word}.**" in text
    assert re.search(rf"^\| `{name}` \|", PAGE, re.MULTILINE), "the table lacks it"
