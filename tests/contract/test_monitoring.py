"""deploy/ and docs/: what dashboards, rules and documents name is what the services export; nothing is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import generate, metrics_page
from drift_worker.alerting.reference_fit import COMPARED
from schemas.alert import AlertName

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
RULE_TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Labels that every alert about a drift of the worker must have.
BY_STATE = {name.value for name in AlertName}
ALERTS = {
    *(
        "Watchdog",
        "ScorerDown",
        "NoProgress",
        "InputBlocked",
        "OffsetMoved",
        "LagGrowing",
        "EventAgeSLOBurn",
        "PredictionSLOBurn",
    ),
    *("DeadLetterRatioHigh", "DeadLetterLimitReached", "PartitionQuarantined", "ConservationBroken"),
    *("FencedRepeatedly", "RebalanceStorm", "ModelStale", "ModelReloadRefused", "ScorerPartDown"),
    "KafkaTokenNotRenewed",
    *("DriftWorkerDown", "WatermarkStuck", "WindowIncomplete", "DriftPartDown", "FeatureNotWatched"),
    *("DriftOffsetMoved", "EpisodesFoundLate"),
    *BY_STATE,
}
ADDED_BY_PROMETHEUS = {"job", "instance", "le", "alertstate"}


def _rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


RECORDED = {rule["record"] for rule in _rules() if "record" in rule}
ALERTING = [rule for rule in _rules() if "alert" in rule]
EXPORTED = metrics_page.exported()
GENERATED = generate.files()


def _expressions() -> list[str]:
    """Of every rule, panel and variable."""
    found = [rule["expr"] for rule in _rules()]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        found += [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        found += [v["definition"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    return found


def _named(text: str) -> set[str]:
    """Everything in a text that is written as a series of ours; a prefix, as in driftline_scorer_…, is none."""
    names = set(re.findall(r"(?<![\w./-])driftline[_:][a-z0-9_:]+(?![\w*…-])", text))
    return {name for name in names if not name.endswith(("_", ":"))}


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_what_would_be_generated_now(name: str) -> None:
    """If this fails: make docs."""
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name]


def test_no_other_dashboard_pretends_to_be_generated() -> None:
    """One that is gone takes its file with it."""
    assert {str(path.relative_to(ROOT)) for path in DASHBOARDS} == {n for n in GENERATED if "dashboards" in n}


@pytest.mark.parametrize("path", [*RULES, *RULE_TESTS, *DASHBOARDS, *DOCUMENTS], ids=lambda path: path.name)
def test_a_series_that_is_named_is_exported_or_recorded(path: Path) -> None:
    """A query for a series that is not there is a panel without data and an alert that never fires."""
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in EXPORTED}
    known = {*EXPORTED, *RECORDED, *(families if path.suffix == ".md" else ())}
    assert _named(path.read_text(encoding="utf-8")) - known == set()


def test_a_series_is_asked_for_by_labels_that_it_has() -> None:
    """A matcher on a label that a series lacks finds nothing, or everything."""
    for expression in _expressions():
        for name, matchers in re.findall(r"(driftline_[a-z0-9_]+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))
            assert labels <= EXPORTED[name] | ADDED_BY_PROMETHEUS, f"{name}: {labels}"


def test_what_is_recorded_is_used() -> None:
    """By an alert or a panel."""
    used = set().union(*(_named(expression) for expression in _expressions()))
    assert used >= RECORDED


def test_what_is_exported_is_documented_and_looked_at() -> None:
    """Every series has its row in docs/metrics.md, and a rule or a panel that uses it."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    families = {name for name in EXPORTED if not name.endswith(("_sum", "_count"))}
    assert [name for name in families if f"`{name.removesuffix('_bucket')}`" not in page] == []
    used = {re.sub(r"_(bucket|sum|count)$", "", n) for e in _expressions() for n in _named(e)}
    unused = {name.removesuffix("_bucket") for name in families} - used
    assert unused == set()


def test_every_alert_has_its_rule() -> None:
    """Those of the pipeline, and one for every alert of the drift worker."""
    assert {rule["alert"] for rule in ALERTING} == ALERTS
    by_state = {
        name for rule in ALERTING for name in re.findall(r'driftline:drift_state\{alertname="(\w+)"\}', rule["expr"])
    }
    assert by_state == BY_STATE
    assert {name.value for name in COMPARED} < by_state


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity: critical, warning, or the drift worker's state. The runbook's url is as RUNBOOK_URL makes it."""
    severities = {"critical", "warning"}
    if rule["alert"] in BY_STATE:
        severities = {"{{ if ge $value 3.0 }}critical{{ else }}warning{{ end }}"}
    if rule["alert"] == "Watchdog":
        severities = {"none"}
    assert rule["labels"]["severity"] in severities
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert 8 < len(notes["summary"]) < 120
    assert len(notes["description"]) > 20
    assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


GROUPS = [group for path in RULE_TESTS for group in yaml.safe_load(path.read_text())["tests"]]


def _checks(alert: str) -> list[list[list[str]]]:
    """Per test group about this alert, in order of time: the labels of those that fire."""
    found = []
    for group in GROUPS:
        asked = [c for c in group["promql_expr_test"] if f'alertname="{alert}"' in c["expr"]]
        if asked:
            found.append([[sample["labels"] for sample in check["exp_samples"]] for check in asked])
    return found


@pytest.mark.parametrize("alert", sorted(ALERTS - {"Watchdog"}))
def test_an_alert_is_tested_from_quiet_to_firing_to_its_end(alert: str) -> None:
    """In one group it is quiet, fires, and is quiet again; that nothing is known is tested for all of them together."""
    shapes = ["".join("x" if fires else "." for fires in group) for group in _checks(alert)]
    assert [shape for shape in shapes if re.fullmatch(r"\.+x+\.+", shape)], shapes
    assert [group for group in GROUPS if group["input_series"] == []]


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: rule["alert"])
def test_an_alerts_words_use_labels_that_it_has(rule: dict[str, Any]) -> None:
    """`{{ $labels.x }}` of a label that the expression does not keep is an empty word."""
    fired = [label for group in _checks(rule["alert"]) for check in group for label in check]
    labels = {name for text in fired for name in re.findall(r'(\w+)="', text)}
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert used <= labels


def test_an_alertmanager_rule_names_alerts_that_exist() -> None:
    """While the pipeline is down, every alert from windows is inhibited.

    Labels concern much earlier days: their alerts are sent.
    """
    config = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    matchers = [m for rule in config["inhibit_rules"] for m in (*rule["source_matchers"], *rule["target_matchers"])]
    named = [set(re.findall(r"\w+", m.partition("=")[2])) for m in matchers if m.startswith("alertname")]
    assert set().union(*named) <= ALERTS
    assert max(named, key=len) == {*BY_STATE, "WindowIncomplete", "WatermarkStuck"} - {AlertName.PERFORMANCE_DROP.value}


def _panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_panel_says_what_it_shows_and_in_what(path: Path) -> None:
    """Title, description, unit and data source; titles are unique, because the runbook leads to them."""
    panels = _panels(path)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for owner in (panel, *panel["targets"]):
            assert owner["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_a_place_of_their_own(path: Path) -> None:
    """Within the 24 columns, none over another, each with a separate number."""
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_repeats_no_limit(path: Path) -> None:
    """No thresholds: a number in a dashboard goes stale. Limits come from their series. Dashboards are read-only."""
    text = path.read_text()
    assert "thresholds" not in text
    assert json.loads(text)["editable"] is False
    variables = {variable["name"] for variable in json.loads(text)["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", text)) - {"__all"} <= variables


def test_the_variables_are_those_that_people_choose_by() -> None:
    """A data source everywhere; process, model, feature and window where they mean something."""
    names = {p.stem: [v["name"] for v in json.loads(p.read_text())["templating"]["list"]] for p in DASHBOARDS}
    assert names == {
        "technical": ["datasource", "instance"],
        "data": ["datasource", "model", "feature", "window"],
        "business": ["datasource", "model"],
    }


def test_grafana_reads_the_dashboards_into_one_folder_and_lets_nobody_change_them() -> None:
    """As provisioned."""
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "driftline.yml").read_text())["providers"]
    assert (provider["folder"], provider["allowUiUpdates"], provider["disableDeletion"]) == ("Driftline", False, True)
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["editable"] is False
