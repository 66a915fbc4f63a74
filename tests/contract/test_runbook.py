"""The runbook: every word that the services and the rules use for what is wrong has its place there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
import yaml

from driftline.cli import app as commands
from kafka_runtime.readiness import NotReady
from schemas.alert import AlertName
from schemas.rejection_reasons import Reason

RUNBOOK = Path("docs/runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
PARTS = ("Impact", "Panel", "Look", "Expect", "Act", "Roll back")
ALERTS = {
    rule["alert"]
    for path in Path("deploy/prometheus/rules").glob("*.yml")
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
PANELS = {
    (dashboard["title"], panel["title"])
    for dashboard in map(json.loads, (p.read_text() for p in Path("deploy/grafana/dashboards").glob("*.json")))
    for panel in dashboard["panels"]
}


@pytest.mark.parametrize("alertname", sorted(ALERTS | set(AlertName)))
def test_an_alerts_url_leads_to_a_section(alertname: str) -> None:
    """`docs/runbook.md#{alertname in lower case}` is a heading, and its section has the impact and the steps."""
    (section,) = [text for heading, text in SECTIONS.items() if heading.lower() == alertname.lower()]
    assert "**Impact.**" in section
    assert "**Act.**" in section


@pytest.mark.parametrize("alertname", sorted(ALERTS))
def test_a_section_says_all_that_is_asked_at_night(alertname: str) -> None:
    """Impact, the first panel, a command, what it shows, what to do, how to go back, in this order."""
    parts = re.findall(r"^\*\*([^*]+)\.\*\* (.+)$", SECTIONS[alertname], re.MULTILINE)
    assert [name for name, _ in parts] == list(PARTS)
    said = dict(parts)
    assert re.search(r"`(curl|docker compose|driftline) [^`]+`", said["Look"]), "a command that can be copied"
    dashboard, panel = re.match(r"(\w+) → ([^,;.]+?)(?= shows|$)", said["Panel"]).groups()
    assert (dashboard, panel) in PANELS


def test_panels_that_are_named_exist() -> None:
    """Wherever the page names one: Dashboard → Panel."""
    titles = {title for _, title in PANELS}
    for dashboard, rest in re.findall(r"(Technical|Data|Business) → ([^\n]+)", RUNBOOK):
        assert [title for title in titles if rest.startswith(title) and (dashboard, title) in PANELS], rest


def test_commands_that_are_named_exist() -> None:
    """With their options, as `driftline --help` knows them."""
    groups = typer.main.get_command(commands).commands
    for line in re.findall(r"driftline ((?:[a-z]+[a-z-]*)(?: [^`\n#|]*)?)", RUNBOOK):
        first, *rest = line.split()
        if first in {"dead-letters", "alerts", "topics", "spec"} and rest:
            command = groups[first].commands[rest[0]]
        else:
            command = groups[first]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= options, line


@pytest.mark.parametrize("reason", NotReady)
def test_what_readiness_says_has_a_section(reason: NotReady) -> None:
    """The reasons of `/readyz` are headings word for word."""
    assert len(SECTIONS[reason.value].split()) > 8


@pytest.mark.parametrize("reason", Reason)
def test_what_a_dead_letter_says_is_explained(reason: Reason) -> None:
    """Every reason is in the table of dead letters."""
    table = RUNBOOK.split("# A dead letter")[1]
    assert f"`{reason.value}`" in table


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((#[^)]+)\)", RUNBOOK))))
def test_links_within_the_page_lead_somewhere(link: str) -> None:
    """A heading's anchor is its text in lower case with dashes."""
    headings = re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE)
    assert link in {"#" + re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
