"""The runbook: every word that the services use for what is wrong has its place there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.alert import AlertName
from schemas.verdict import Reason
from streaming.consumer import NotReady

RUNBOOK = Path("docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("alertname", AlertName)
def test_an_alerts_url_leads_to_a_section(alertname: AlertName) -> None:
    """`docs/runbook.md#{alertname in lower case}` is a heading, and its section says the impact and what to do."""
    (section,) = [text for heading, text in SECTIONS.items() if heading.lower() == alertname.lower()]
    assert "**Impact.**" in section
    assert "**Act.**" in section


@pytest.mark.parametrize("reason", NotReady)
def test_what_readiness_says_has_a_section(reason: NotReady) -> None:
    """The reasons of `/readyz` are headings word for word."""
    assert len(SECTIONS[reason.value].split()) > 8


@pytest.mark.parametrize("reason", Reason)
def test_what_a_dead_letter_says_is_explained(reason: Reason) -> None:
    """Every reason stands in the table of dead letters."""
    table = RUNBOOK.split("# A dead letter")[1]
    assert f"`{reason.value}`" in table
