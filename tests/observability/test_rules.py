"""Rules and routes, as Prometheus' own tools judge them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from support import prometheus_tools

DEPLOY = Path(__file__).parents[2] / "deploy"
TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"


def _run(tool: str, *arguments: str | Path) -> str:
    command = [prometheus_tools.need(tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    """With every rule file that there is, and nothing that its linter objects to."""
    said = _run("promtool", "check", "config", "--lint=all", "--lint-fatal", DEPLOY / "prometheus" / "prometheus.yml")
    assert said.count("rules found") == len(list((DEPLOY / "prometheus" / "rules").iterdir())) == 3


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_every_alert_fires_is_quiet_just_below_and_ends(path: Path) -> None:
    """The rule tests' cases; tests/contract ensures that they leave out no alert."""
    _run("promtool", "test", "rules", path)


def test_alertmanager_takes_its_configuration() -> None:
    """Two receivers that post, one that is silent, and the inhibitions."""
    assert "SUCCESS" in _run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=FeatureDrift", "severity=critical", "model=churn-telco", "feature=tenure"], "page"),
        (["alertname=FeatureDrift", "severity=warning", "model=churn-telco", "feature=tenure"], "ticket"),
        (["alertname=ScorerDown", "severity=critical"], "page"),
        (["alertname=FeatureDrift", "severity=critical", "model=churn-telco", "origin=kafka"], "page"),
        (["alertname=Watchdog", "severity=none"], "watchdog"),
        (["alertname=Somebodys", "team=other"], "ticket"),
    ],
)
def test_a_critical_alert_is_a_page_and_a_warning_a_ticket(labels: list[str], receiver: str) -> None:
    """For any other severity: an unforeseen one is a ticket."""
    _run(
        "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}", *labels
    )


def test_what_is_resolved_is_told() -> None:
    """By every receiver that sends anything."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    webhooks = [webhook for receiver in config["receivers"] for webhook in receiver.get("webhook_configs", [])]
    assert [webhook["send_resolved"] for webhook in webhooks] == [True, True]
