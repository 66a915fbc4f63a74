"""The benchmark's pure parts: from timestamps and samples to figures, bars, tables and the picture."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("confluent_kafka", reason="the benchmark reads with librdkafka, of the dev extra")

from aiokafka.consumer import fetcher
from quality import drift_stages

from bench import chart, environments, forms, report
from bench.bars import NATIVE, Bar, bars
from bench.contestants import CONTESTANTS, PARTITIONS, QUICK
from bench.drift import counted
from bench.figures import Age, Backlog, Figures, age_ms, cpu_between, quantile, steady_window
from bench.run import TOPICS, Plan, Run
from bench.stage import write_revenue
from driftline.errors import CommandError

NAMES = {contestant.name: contestant for contestant in CONTESTANTS}


def test_quantile_is_a_value_that_was_measured():
    """Never one between two of them."""
    ages = [float(i) for i in range(1, 101)]
    assert quantile(ages, 0.5) == 50.0
    assert quantile(ages, 0.99) == 99.0
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([1.0, 2.0, 3.0], 0.0) == 1.0
    assert quantile([1.0, 2.0, 3.0], 1.0) == 3.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_a_backlogs_first_tenth_is_warming_up_and_not_counted():
    """100 answers a second apart: from the eleventh to the last there are 89 s and 89 answers."""
    assert steady_window([1000 * i for i in range(100)]) == (10_000, 99_000, 89)


def test_answers_of_the_first_counted_moment_were_made_before_it():
    """Two batches of 50 in one millisecond each: only the second was made within the time between them."""
    assert steady_window([1000] * 50 + [2000] * 50) == (1000, 2000, 50)


def test_a_backlog_answered_in_one_moment_has_no_rate():
    """There is no time to divide by."""
    assert steady_window([5] * 1000) is None
    assert steady_window([5]) is None
    assert steady_window([]) is None


def test_cpu_time_is_interpolated_between_samples_and_never_beyond_them():
    """The process is looked at ten times a second; answers come in between."""
    samples = [(10.0, 1.0), (12.0, 3.0), (14.0, 3.0)]
    assert cpu_between(samples, 10.0, 14.0) == 2.0
    assert cpu_between(samples, 11.0, 12.0) == pytest.approx(1.0)
    assert cpu_between(samples, 11.5, 13.0) == pytest.approx(0.5)
    assert cpu_between(samples, 0.0, 99.0) == 2.0


@pytest.mark.parametrize(
    "value",
    [
        b'{"schema_version":1,"event_time":"2026-11-22T05:00:00.250Z","probability":0.5}',
        b'{"event_id": "1", "event_time": "2026-11-22T05:00:00.250Z"}',
        b'{"event_time":"2026-11-22T06:00:00.250+01:00"}',
    ],
)
def test_age_is_the_time_since_the_events_own_time(value: bytes):
    """From any writer of JSON: with or without blanks, in any time zone."""
    sent_ns = 1_795_323_600_250_000_000
    assert age_ms(sent_ns + 40_500_000, value) == (pytest.approx(sent_ns / 1e6), pytest.approx(40.5, abs=1e-3))


def test_an_answer_that_does_not_carry_the_events_time_is_an_error():
    """A contestant that drops it can't be measured."""
    with pytest.raises(ValueError, match="without event_time"):
        age_ms(0, b'{"probability": 0.5}')


def figures(rate: float, *ages: Age, cold_start_s: float | None = 2.0) -> Figures:
    """One backlog round at `rate`."""
    backlog = Backlog(rate, 20.0, 250_000_000, 500_000, 500_000, 0.01)
    return Figures([backlog], list(ages), cold_start_s)


def a_run(measured: dict[str, Figures], plan: Plan | None = None) -> Run:
    """A run in which `measured` took part."""
    machine: dict[str, str | int] = {"system": "Linux x86_64", "cpu": "a <fast> CPU", "cores": 2, "memory_gb": 25}
    contestants = [NAMES[name] for name in measured]
    return Run(plan or Plan(), contestants, "2026-11-22", machine, {"driftline": "0.1.0"}, 0.02, measured)


MEASURED = {
    "driftline": figures(
        50_000,
        Age(100, 2000, 8.0, 47.0, 300.0, 0.0),
        Age(1000, 20_000, 31.0, 99.0, 90.0, 0.0),
        Age(10_000, 200_000, 40.0, 201.0, 30.0, 0.0),
    ),
    "copy-aiokafka-eos": figures(80_000),
    "copy-librdkafka-eos": figures(70_000, Age(1000, 20_000, 62.0, 66.0, 50.0, 0.0)),
    "driftline-200": Figures([], [Age(1000, 20_000, 400.0, 330.0, 900.0, 0.0)], 29.0),
    "drift": Figures([Backlog(25_000, 50.0, 140_000_000, 500_000, 500_000, 0.01)]),
    "bytewax-batch": figures(24_000, Age(100, 2000, 30.0, 120.0, 4000.0, 0.0), Age(1000, 1, None, None, None, 0.0)),
    "quix-eos": figures(100),
    "faststream-each": Figures(error="it ended with 1: no module named x"),
}


def test_the_middle_of_the_rounds_counts():
    """One round on a machine that was busy does not decide."""
    rounds = [Backlog(rate, None, peak, 1, 1, None) for rate, peak in ((10.0, 5), (30.0, 9), (20.0, 7))]
    measured = Figures(rounds)
    assert measured.rate == 20.0
    assert measured.peak_bytes == 9
    assert measured.cpu_us is None
    assert Figures().rate is None


def test_bars_are_reached_missed_or_not_measured():
    """What the run did not measure is neither."""
    found = {bar.what: bar for bar in bars(MEASURED)}
    assert found["exactly-once, pure Python, throughput ÷ aiokafka's copy"].value == 0.625
    assert found["exactly-once, pure Python, throughput ÷ aiokafka's copy"].reached is True
    assert found["exactly-once, throughput ÷ Quix Streams"].value == 500
    drift = found["drift worker, CPU per customer event (event and prediction) ÷ the scorer's in Python"]
    assert (drift.value, drift.reached) == (2.5, False)
    assert found[drift.what.replace("worker", "worker, native lane")].reached is None
    age = "exactly-once, 4 partitions, event age at 1,000/s, {} ÷ that of librdkafka's copy"
    assert (found[age.format("p50")].value, found[age.format("p50")].reached) == (0.5, True)
    assert (found[age.format("p99")].value, found[age.format("p99")].reached) == (1.5, False)
    assert found[age.replace("4", "200", 1).format("p99")].reached is True  # on the line
    assert found[age.replace("4", "64", 1).format("p50")].reached is None
    assert found["exactly-once, CPU per event at a steady 1,000/s ÷ 496 µs"].value == pytest.approx(90 / 496)
    assert found["at-least-once, throughput ÷ exactly-once"].reached is None
    assert found["memory of a scorer under a backlog"].value == 250
    assert found["memory of a drift worker under a backlog"].value == 140
    assert found["first answer of 200 partitions"].reached is True


def test_other_tasks_are_measured_on_the_same_customers(tmp_path: Path):
    """Those who leave bring nothing; the others are in four bands of about the same size."""
    with write_revenue(tmp_path / "revenue.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    bands = Counter(row["band"] for row in rows)
    assert (len(rows), sorted(bands)) == (7043, ["band 1", "band 2", "band 3", "band 4", "none"])
    assert min(bands.values()) > 1000
    assert all((float(row["revenue"]) == 0.0) == (row["band"] == "none") == (row["churn"] == "Yes") for row in rows)


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [(5.0, True, True), (4.9, True, False), (5.0, False, True), (5.1, False, False), (None, True, None)],
)
def test_a_figure_on_the_line_has_reached_it(value: float | None, at_least: bool, reached: bool | None):
    """Both where more is better and where less is."""
    assert Bar("what", value, 5.0, "ms", at_least).reached is reached


def test_every_contestant_that_a_bar_names_exists():
    """A renamed contestant must not leave a bar unmeasured for ever. The native lane is built where it can be."""
    everybody = {name: figures(1.0, Age(1000, 1, 1.0, 1.0, 1.0, None)) for name in NAMES}
    for measured in everybody.values():
        measured.ages += [Age(rate, 1, 1.0, 1.0, None, None) for rate in (100, 10_000)]
    lanes = {} if NATIVE in everybody else {NATIVE: everybody["driftline"]}
    assert [bar.what for bar in bars({**everybody, **lanes}) if bar.reached is None] == []
    assert set(QUICK) <= set(NAMES)


def test_the_table_is_ordered_by_throughput_and_says_who_does_not_keep_up():
    """A failed one comes last, with the reason below."""
    lines = report.as_text(a_run(MEASURED)).splitlines()
    names = ("copy-aiokafka-eos", "copy-librdkafka-eos", "driftline", "bytewax-batch", "quix-eos", "faststream-each")
    assert [line.split("  ")[0] for line in lines[1:7]] == [NAMES[name].title for name in names]
    assert "0.62" in lines[3]
    assert "8.0 / 47.0" in lines[3]
    assert lines[4].count(report.CANNOT) == 2  # at 1,000 it was seen, 10,000 was not tried
    assert lines[5].count(report.CANNOT) == 3
    assert lines[6].count(report.NOT_MEASURED) == 8
    assert "FastStream, event by event: it ended with 1: no module named x" in lines
    assert any(line.startswith("exactly-once, throughput ") and line.endswith("  reached") for line in lines)
    assert not any("not measured" in line for line in lines)  # bars of what this run left out


def _cells(line: str) -> list[str]:
    return [cell for cell in re.split(" {2,}", line) if cell]


def test_partitions_and_the_drift_worker_have_tables_of_their_own():
    """They are no other ways to do the same, and other figures of them count."""
    lines = report.as_text(a_run(MEASURED)).splitlines()
    steady = lines.index(next(line for line in lines if line.startswith("at a steady 1,000/s")))
    assert [_cells(line) for line in lines[steady + 1 : steady + 4]] == [
        ["Driftline, exactly-once", "4", "31.0 / 99.0", "90", "2.0"],
        ["copy, librdkafka transactions", "4", "62.0 / 66.0", "50", "2.0"],
        ["Driftline, 200 partitions", "200", "400.0 / 330.0", "900", "29.0"],
    ]
    (drift,) = (line for line in lines if line.startswith("drift worker, both"))
    assert _cells(drift) == ["drift worker, both", "25,000", "50.0", "2.50", "140"]
    assert not any(line.startswith(("drift", "Driftline, 200")) for line in lines[: steady - 1])


@pytest.mark.parametrize(("each", "rate", "cpu_us"), [(1, 1000.0, 20.0), (2, 500.0, 40.0)])
def test_a_drift_workers_cpu_is_counted_from_the_first_tenth_on(each: int, rate: float, cpu_us: float):
    """Its start is not counted; an event and its prediction are one customer event."""
    seen = [(0.0, 0.0, 0), (5.0, 3.0, 50), (6.0, 3.5, 1000), (7.0, 3.52, 2000), (15.0, 3.68, 10_000)]
    assert counted(seen, each) == (pytest.approx(rate), pytest.approx(cpu_us))
    with pytest.raises(CommandError, match="at once"):
        counted(seen[-1:], each)


def test_events_of_5_kb_are_events():
    """The same event, with texts that no feature reads."""
    event = b'{"schema_version":1,"event_id":"e","features":{"a":1}}'
    encode = forms.encoder("wide", ())
    assert encode is not None
    wide = encode(event)
    assert 4900 < len(wide) <= forms.WIDE_BYTES
    assert {name: value for name, value in json.loads(wide).items() if name != "context"} == json.loads(event)
    assert Plan(backlog=500_000).offered("wide") * len(wide) < 600e6


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.name)
def test_every_contestant_has_a_backlog_or_partitions_of_its_own(contestant):
    """Its events have a topic, and a drift worker reads something."""
    assert contestant.form in TOPICS
    assert bool(contestant.reads) == (contestant.kind == "drift")
    assert contestant.partitions == PARTITIONS or (contestant.kind, contestant.form) == ("ours", "json")


def test_an_age_that_nobody_measures_is_not_one_that_was_missed():
    """Event age is measured with the default envelope only."""
    text = report.as_text(a_run({"driftline-avro": figures(1000.0)}))
    assert report.CANNOT not in text
    assert text.count(report.NOT_MEASURED) >= 3


def test_without_rates_there_are_no_columns_for_them():
    """`--quick` looks at a backlog only."""
    text = report.as_text(a_run({"driftline": figures(1000.0, cold_start_s=None)}, Plan(rates=())))
    assert "age" not in text.splitlines()[0]
    assert "cold" not in text.splitlines()[0]


def test_the_page_has_whole_tables_and_says_where_and_how():
    """Every row of the first table has the same cells."""
    page = report.as_markdown(a_run(MEASURED))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[:8]}) == 1
    assert "| drift worker, both | 25,000 |" in page
    assert "not measured" in page
    assert "a <fast> CPU, 2 cores, 25 GB" in page
    assert "OMP_NUM_THREADS=1" in page
    assert "500,000 events wait" in page
    assert "{" not in page


def test_a_run_on_a_busy_machine_says_so():
    """Contestants run one after the other: what others take meanwhile hits only some of them."""
    measured = figures(50_000)
    assert "too busy" not in report.as_text(a_run({"driftline": measured}))
    measured.backlogs.append(Backlog(50_000, 20.0, 1, 1, 1, 0.4))
    assert "at most 40% during a measurement: too busy" in report.as_text(a_run({"driftline": measured}))


def test_the_json_holds_every_round_and_can_be_read_back():
    """What a later comparison needs."""
    found = json.loads(json.dumps(report.as_json(a_run(MEASURED))))
    assert found["contestants"]["driftline"]["relative_to_copy"] == 0.625
    assert found["contestants"]["driftline"]["backlogs"][0]["rate"] == 50_000
    assert found["contestants"]["quix-eos"]["ages"] == []
    assert {bar["reached"] for bar in found["bars"]} == {True, False, None}


def test_the_picture_is_well_formed_and_bars_are_as_long_as_they_should():
    """The longest bar fills the width, the others are in proportion."""
    root = ET.fromstring(chart.as_svg(a_run(MEASURED)))  # noqa: S314 - our own text
    space = {"svg": "http://www.w3.org/2000/svg"}
    widths = {
        colour: [float(r.attrib["width"]) for r in root.findall("svg:rect", space) if r.attrib["fill"] == colour]
        for colour in chart.COLOURS.values()
    }
    full = chart.WIDTH - chart.LEFT - chart.RIGHT
    assert widths[chart.COLOURS["copy"]][0] == full
    assert widths[chart.COLOURS["ours"]][0] == pytest.approx(full * 50 / 80)
    texts = [text.text for text in root.findall("svg:text", space)]
    assert "31 – 99" in texts
    assert texts.count("does not keep up") == 3


@pytest.mark.parametrize("name", sorted({c.requirements for c in CONTESTANTS if c.requirements}))
def test_a_peer_is_pinned_with_hashes_and_has_the_same_model_libraries(name: str):
    """Else the model that all of them load would not be the same code."""
    lock = (environments.PEERS / f"{name}.lock").read_text(encoding="utf-8")
    assert len(re.findall(r"^[a-z0-9-]+==", lock, re.MULTILINE)) <= lock.count("--hash=sha256:")
    ours = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", Path("requirements.lock").read_text("utf-8"), re.MULTILINE))
    theirs = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
    for library in ("scikit-learn", "numpy", "pandas", "joblib"):
        assert theirs[library] == ours[library]
    assert list(environments.pinned(name)) == [name]


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.name)
def test_every_contestants_script_is_there(contestant):
    """A misspelt name would be found after half an hour."""
    if contestant.script is not None:
        assert (environments.PEERS / contestant.script).is_file()


def test_each_stage_of_a_drift_worker_is_measured(telco_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a batch that is all events, and all predictions: what is odd would cost more."""
    for name in ("MemoryRecords", "PartitionRecords", "FetchResult"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    found = {name: both for name, *both in drift_stages.stages(telco_bundle, 2)}
    assert all(us is None or us > 0 for both in found.values() for us in both)
    assert {name for name, both in found.items() if None not in both} >= {"decode", "hash of the customers"}
    assert {name: both.index(None) for name, both in found.items() if None in both} == {
        "columns and checks": 1,
        "times": 0,
    }
