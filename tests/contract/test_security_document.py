"""SECURITY.md names what shows its claims: each test is there, and each link leads somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_every_test_that_the_threat_model_names_is_there() -> None:
    """A protection whose test has gone is none that is shown."""
    named = set(re.findall(r"`([a-z]+/test_\w+\.py)`", TEXT))
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_every_link_of_the_threat_model_leads_somewhere() -> None:
    """Files, and headings in them."""
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        name, _, heading = target.partition("#")
        text = (ROOT / name).read_text(encoding="utf-8")
        headings = {found.lower().replace(" ", "-") for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not heading or heading in headings, target
