"""Every page of the documentation can be found: the site's navigation names it."""

import documents
import pytest

ROOT = documents.ROOT
PAGES = [
    path
    for pattern in ("docs/*.md", "docs/api/*.md", "docs/extend/*.md", "experiments/*/README.md")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in PAGES))
def test_the_navigation_has_the_page(page: str) -> None:
    lines = [line.strip() for line in (ROOT / "mkdocs.yml").read_text().splitlines()]
    assert f"- {page}" in lines, f"add it to nav in mkdocs.yml: {page}"
