"""docs/contracts.md describes the code: its tables and examples are read and compared with it."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer
from fastapi import FastAPI
from support.events import NOW_MS, Decoders, record

from drift_worker.settings import DriftSettings
from driftline.cli import app as commands
from driftline.training.spec import parse_spec
from kafka_runtime.readiness import NotReady
from kafka_runtime.service.http import serve_docs
from schemas import headers as h
from schemas.alert import AlertName, decode_alert, fingerprint
from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import Manifest
from schemas.label import LabelReason, decode_label
from schemas.measurement import decode_measurement
from schemas.performance import Cohort, Performance
from schemas.prediction import ModelRef, PredictionEncoder, decode_prediction
from schemas.rejection_reasons import Reason
from schemas.setting_names import KNOWN, Topics
from scorer.http import add_predict
from scorer.settings import ScorerSettings

TEXT = (Path(__file__).parents[2] / "docs" / "contracts.md").read_text(encoding="utf-8")


def _section(title):
    """Everything below a heading, up to the next one of its rank or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    rest = TEXT[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} [A-Z]", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def _rows(section, heading):
    """Cells of the table whose first header cell is `heading`."""
    lines = section.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def _names(cell):
    return re.findall(r"`([^`]+)`", cell)


def _example(section, language="json"):
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def test_the_settings_are_the_codes():
    """Every variable with its default, and no other."""
    rows = _rows(_section("Settings"), "variable")
    documented = [_names(row[0])[0] for row in rows]
    assert len(documented) == len(set(documented))
    assert set(documented) == KNOWN
    for cells, name in zip(rows, documented, strict=True):
        kinds = [kind for kind in (ScorerSettings, DriftSettings) if name.lower() in kind.model_fields]
        assert kinds, name
        for kind in kinds:
            default = kind.read({}, KNOWN).public()[name]
            if cells[1] == "none":
                assert default is None, name
            else:
                assert kind.read({name: _names(cells[1])[0]}, KNOWN).public()[name] == default, name
            assert ("SecretStr" in str(kind.model_fields[name.lower()].annotation)) == ("†" in cells[0]), name


def test_the_reasons_are_the_codes():
    """In the order of the checks, which is the enumeration's."""
    rows = _rows(_section("What is refused, and in which order"), "reason")
    assert [name for row in rows for name in _names(row[0])] == [reason.value for reason in Reason]


def test_the_headers_are_the_codes():
    """Every header we write has its row."""
    names = [name for row in _rows(_section("Headers"), "header") for name in _names(row[0])]
    ours = {value for name, value in vars(h).items() if isinstance(value, str) and value.startswith(h.OURS)} - {h.OURS}
    assert set(names) == {*ours, h.CONTENT_TYPE[0], h.TRACEPARENT}
    assert len(names) == len(set(names))


def test_the_topics_are_the_codes():
    """Setting by setting with its default name."""
    rows = _rows(_section("Topics"), "topic")
    documented = {_names(row[1])[0]: _names(row[0])[0] for row in rows}
    defaults = {field.upper(): getattr(Topics(), field) for field in Topics.model_fields}
    assert documented == defaults


def test_the_alert_names_are_the_codes():
    """One row for those that are alike."""
    said = {name for row in _rows(_section("Alert"), "alertname") for name in _names(row[0])}
    assert said == set(AlertName)


def test_the_reasons_of_readyz_are_the_codes():
    """A closed set."""
    line = next(line for line in _section("HTTP").splitlines() if line.startswith("Reasons of `/readyz`"))
    assert _names(line)[1:] == [reason.value for reason in NotReady]


def test_the_commands_are_the_codes():
    """Every command of `driftline --help`, and no other."""
    found = set()
    for name, command in typer.main.get_command(commands).commands.items():
        found |= {f"driftline {name} {inner}" for inner in getattr(command, "commands", {})} or {f"driftline {name}"}
    documented = set()
    for row in _rows(_section("Commands"), "command"):
        words = _names(row[0])
        group = words[0].rpartition(" ")[0]
        documented |= {word if " " in word else f"{group} {word}" for word in words if not word.startswith("python")}
    assert documented == found


def test_the_options_of_the_commands_are_the_codes():
    """Each section of *Options and output* lists exactly the options of the commands in its heading."""
    options = {}
    for name, command in typer.main.get_command(commands).commands.items():
        inner = getattr(command, "commands", None)
        for words, leaf in ({f"{name} {n}": c for n, c in inner.items()} if inner else {name: command}).items():
            options[words] = {o for p in leaf.params for o in p.opts if o.startswith("--")} - {"--help"}
    for title, text in re.findall(r"^#### (.*?)\n(.*?)(?=^#)", _section("Commands"), re.MULTILINE | re.DOTALL):
        named = [name.removeprefix("driftline ") for name in title.split(", ")]
        group = named[0].rpartition(" ")[0]
        own = [options.pop(name if name in options else f"{group} {name}") for name in named]
        cells = [row.split(" | ")[0] for row in text.splitlines() if row.startswith("|")]
        assert {option for cell in cells for option in re.findall(r"`(--[a-z-]+)", cell)} == set().union(*own), title
    assert options == {}


def test_the_manifests_members_are_the_codes():
    """Every member of manifest.json has its row, and every member of a feature is named."""
    rows = _rows(_section("Model bundle"), "manifest")
    assert {name for row in rows for name in _names(row[0])} == set(Manifest.model_fields)
    features = next(row for row in rows if row[0] == "`features`")
    aliases = {field.alias or name for name, field in Feature.model_fields.items()}
    assert aliases <= set(_names(features[1]))


def test_the_scorers_paths_are_the_codes():
    """Those of the scorer alone: its application is put together without a broker."""
    app = FastAPI(docs_url=None, redoc_url=None)
    add_predict(app, lambda: None)
    serve_docs(app)
    own = {route.path for route in app.routes if not route.path.startswith("/docs/")}
    rows = _rows(_section("HTTP"), "request")
    documented = {name.split()[1] for row in rows if row[1] == "scorer" for name in _names(row[0])}
    assert documented == own


FEATURES = (
    Feature(name="tenure", kind="numeric"),
    Feature(name="monthly_charges", kind="numeric"),
    Feature(name="contract", kind="categorical", categories=("Month-to-month",)),
    Feature(name="total_charges", kind="numeric", nullable=True),
)


def test_the_example_of_an_event_is_valid():
    """It is what a producer would copy."""
    value = _example(_section("Event")).encode()
    batch = Decoders(EventMapping(), FEATURES).decode([record(value)], now_ms=NOW_MS + 1000)
    assert batch.rejections == [None]
    assert batch.unknown_fields == 0


def test_the_example_of_a_prediction_is_what_is_written():
    """Byte for byte but for spaces."""
    example = _example(_section("Prediction"))
    p = decode_prediction(example.encode())
    encoder = PredictionEncoder(ModelRef(p.model.name, p.model.version), p.threshold)
    (written,) = encoder.encode(
        [p.prediction_id], [p.event_id], [p.customer_id], [p.event_time], p.scored_at, [p.probability]
    )
    assert json.dumps(json.loads(example)) == json.dumps(json.loads(written))


def test_the_example_of_an_alert_is_one():
    """Its fingerprint is the one of its labels, and nothing of it is lost when it is read."""
    example = json.loads(_example(_section("Alert")))
    alert = decode_alert(json.dumps(example).encode())
    assert alert.fingerprint == fingerprint(alert.labels)
    assert json.loads(alert.encode()) == example


def test_the_example_of_a_measurement_is_one():
    """Every member of the example survives being read and written."""
    example = json.loads(_example(_section("Measurement")).replace('"score": {"kind"', '"score": {"events": 1, "kind"'))
    written = json.loads(decode_measurement(json.dumps(example).encode()).encode())

    def within(part, whole):
        if isinstance(part, dict):
            return all(name in whole and within(value, whole[name]) for name, value in part.items())
        return part == whole

    assert within(example, written)


def test_the_example_of_a_label_is_one():
    """It is what upstream would copy, and the reasons against one are the code's."""
    verdict = decode_label(_example(_section("Label")).encode(), NOW_MS * 2, 0)
    assert verdict.label.prediction_id == "customer-events-3-1042"
    line = next(line for line in _section("Label").splitlines() if "refused_labels_total" in line)
    assert _names(line)[1:] == [reason.value for reason in LabelReason]


def test_the_members_of_a_performance_are_the_codes():
    """Every member has its place in the table."""
    named = {name for row in _rows(_section("Performance"), "member") for name in _names(row[0])}
    assert named - set(Cohort.__struct_fields__) == (
        set(Performance.__struct_fields__) - {"version"} | {"positive", "negative", "absent"}
    ) - {"start", "end", "day"}


def test_the_example_of_a_spec_is_read():
    """With every table of it."""
    text = _example(_section("The spec"), "toml")
    spec = parse_spec(text)
    assert list(spec.features) == ["tenure", "total_charges", "contract", "senior_citizen"]
    assert set(tomllib.loads(text)) == {"model", "event", "data", "estimator", "training", "business", "features"}
    assert spec.event == EventMapping()


@pytest.mark.parametrize("match", sorted(set(re.findall(r"\]\((#[^)]+)\)", TEXT))))
def test_links_within_the_page_lead_somewhere(match):
    """A heading's anchor is its text in lower case with dashes."""
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert match in anchors
