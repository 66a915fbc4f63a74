"""A run → JSON, a table for the terminal, docs/benchmark.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.bars import COPY, Bar, bars, ratio
from bench.contestants import PARTITIONS, Contestant
from bench.figures import STEADY_RATE, Figures
from bench.run import Run

NOT_MEASURED = "–"
CANNOT = "does not keep up"
# Share of the machine: contestants run one after the other, so other programs' load affects only some of them.
BUSY = 0.1

METHOD = """\
- Each contestant is one process on the machine that also runs the broker, the producer and the reader. Numeric
  libraries use one thread (`OMP_NUM_THREADS=1`).
- Events are those of `driftline produce` for the Telco customers: 19 features, JSON, about 500 bytes, 4 partitions.
  Events of 5 KB have further texts, which no feature reads; of these, {wide:,} wait.
  Every contestant with a model applies the same fitted scikit-learn pipeline and writes one JSON answer per event.
  A regression and five classes have the same features: they predict a customer's next revenue, and its band.
  Driftline also validates every event, writes headers and counts metrics, as in production; the peers do none of this.
- Peers are written the way their documentation shows; their scripts are in `bench/peers`. They get good
  events only. They share a function that builds a DataFrame column by column and calls the model once per batch. They
  differ in how events arrive, how answers leave, and how many events are taken together.
- Events/s: {backlog:,} events wait when the process starts; it is stopped after {seconds:g} s of answers or when all
  are answered. A `read_committed` consumer reads the answers afterwards. They are counted from the first tenth to the
  last by the time at which the broker appended them. {rounds} rounds in alternating order, the median counts; one round
  below 1,000 answers a second.
- Share of copy: events/s divided by those of the copy through aiokafka with transactions, of the same run.
- CPU: user and system time of the process and its children over the same span, per event, without the broker's.
- Event age: from the producer's timestamp in the event until a `read_committed` librdkafka consumer has the answer. It
  polls record by record, for {seconds:g} s at each rate after 2 s of warming up, in one process per contestant.
- Other numbers of partitions: events topic, answers and group have so many; one process serves all of them.
- Drift worker: the whole process on {backlog:,} waiting events, on as many predictions that a scorer wrote from them,
  and on both, with the default windows. CPU is per customer event, from the first committed tenth to the last; of both,
  a customer event is an event and its prediction. Progress is read from the group's committed offsets.
- Memory: the largest resident set (VmHWM) under the backlog. Cold start: from starting the process until its first
  answer can be read; the model is on disk, the broker up, events waiting.
"""
CAVEATS = """\
- Two runs on one machine differ by far more than two contestants of one run: compare ratios.
- Producer, reader and broker share the cores. A contestant that leaves them less is measured slower at 10,000 events/s.
- Guarantees differ, and so does the treatment of a bad record; a faster line in the table can be a weaker guarantee.
- One broker without replication on a loopback interface: commits are cheaper here than in a cluster.
"""


def as_json(run: Run) -> dict[str, Any]:
    """Return everything, by name."""
    return {
        "format": 1,
        "date": run.date,
        "machine": run.machine,
        "versions": run.versions,
        "plan": asdict(run.plan),
        "others_before": run.others_before,
        "contestants": {
            c.name: {
                "title": c.title,
                "guarantee": c.guarantee,
                "model": c.model,
                "task": c.task,
                "events_per_s": run.figures[c.name].rate,
                "cpu_us_per_event": run.figures[c.name].cpu_us,
                "peak_bytes": run.figures[c.name].peak_bytes,
                "relative_to_copy": ratio(run.figures, c.name, COPY),
                **asdict(run.figures[c.name]),
            }
            for c in run.contestants
        },
        "bars": [{**asdict(bar), "reached": bar.reached} for bar in bars(run.figures)],
    }


def as_text(run: Run) -> str:
    """Return the text for the terminal: the figures, then the targets that this run measured."""
    lines = [line for head, rows in _tables(run) for line in (*_aligned(head, rows), "")][:-1]
    lines += ["", *failed] if (failed := _failed(run)) else []
    judged = [bar for bar in bars(run.figures) if bar.reached is not None]
    if judged:
        lines += ["", *_aligned(BAR_HEAD, [_bar_row(bar) for bar in judged])]
    lines += ["", *_circumstances(run)]
    return "\n".join(lines)


def as_markdown(run: Run) -> str:
    """Return docs/benchmark.md."""
    plan = run.plan
    method = METHOD.format(backlog=plan.backlog, wide=plan.offered("wide"), seconds=plan.seconds, rounds=plan.rounds)
    failed = [f"- {line}" for line in _failed(run)]
    parts = [
        "# Benchmark",
        "Written by `driftline bench --write`. All figures are of one run, side by side.",
        "![events per second and event age](benchmark.svg)",
        *("\n".join(_table(head, rows)) for head, rows in _tables(run)),
        *(["Not measured to the end:\n\n" + "\n".join(failed)] if failed else []),
        "## Bars",
        "The project's target and the figure of this run.",
        "\n".join(_table(BAR_HEAD, [_bar_row(bar) for bar in bars(run.figures)])),
        "## Method",
        method.rstrip(),
        "## Machine and versions",
        "\n".join(f"- {line}" for line in _circumstances(run)),
        "## Caveats",
        CAVEATS.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def _failed(run: Run) -> list[str]:
    return [f"{c.title}: {run.figures[c.name].error}" for c in run.contestants if run.figures[c.name].error]


def _tables(run: Run) -> list[tuple[list[str], list[list[str]]]]:
    """Return head and rows of each table: a backlog and event age, a steady rate, the drift worker."""
    tables = [(_head(run), _rows(run)), (STEADY_HEAD, _steady_rows(run)), (DRIFT_HEAD, _drift_rows(run))]
    return [table for table in tables if table[1]]


STEADY_HEAD = [
    f"at a steady {STEADY_RATE:,}/s",
    "partitions",
    "p50 / p99 ms",
    "CPU µs/event",
    "first answer s",
]
DRIFT_HEAD = ["", "customer events/s", "CPU µs/event", "÷ the scorer's", "memory MB"]


def _steady_rows(run: Run) -> list[list[str]]:
    rows = []
    for contestant in run.contestants:
        figures = run.figures[contestant.name]
        age = figures.age(STEADY_RATE)
        if contestant.kind != "peer" and (age is not None or contestant.partitions != PARTITIONS):
            rows.append(
                [
                    contestant.title,
                    f"{contestant.partitions}",
                    _age(figures, STEADY_RATE),
                    _number(age.cpu_us if age is not None else None),
                    _number(figures.cold_start_s, 1),
                ]
            )
    return rows


def _drift_rows(run: Run) -> list[list[str]]:
    rows = []
    scorer = run.figures["driftline"].cpu_us if "driftline" in run.figures else None
    for contestant in run.contestants:
        if contestant.kind == "drift":
            figures = run.figures[contestant.name]
            cpu_us = figures.cpu_us
            rows.append(
                [
                    contestant.title,
                    _number(figures.rate),
                    _number(cpu_us, 1),
                    _number(cpu_us / scorer if cpu_us is not None and scorer else None, 2),
                    _number(figures.peak_bytes / 1e6 if figures.peak_bytes else None),
                ]
            )
    return rows


def _head(run: Run) -> list[str]:
    ages = [f"age at {rate:,}/s, p50 / p99 ms" for rate in run.plan.rates]
    cold = ["cold start s"] if ages else []
    return ["", "guarantee", "share of copy", "events/s", "CPU µs/event", *ages, "memory MB", *cold]


def _rows(run: Run) -> list[list[str]]:
    order: Sequence[Contestant] = sorted(
        (c for c in run.contestants if c.kind != "drift" and c.partitions == PARTITIONS),
        key=lambda c: -(run.figures[c.name].rate or 0),
    )
    rows = []
    for contestant in order:
        figures = run.figures[contestant.name]
        share = ratio(run.figures, contestant.name, COPY)
        rows.append(
            [
                contestant.title,
                contestant.guarantee,
                NOT_MEASURED if share is None else f"{share:.2f}" if share >= 0.01 else f"{share:.4f}",
                _number(figures.rate),
                _number(figures.cpu_us, 1 if (figures.cpu_us or 0) < 100 else 0),
                *(_age(figures, rate) if contestant.form == "json" else NOT_MEASURED for rate in run.plan.rates),
                _number(figures.peak_bytes / 1e6 if figures.peak_bytes else None),
                *([_number(figures.cold_start_s, 1)] if run.plan.rates else []),
            ]
        )
    return rows


def _age(figures: Figures, rate: int) -> str:
    age = figures.age(rate)
    if age is None:  # not measured: too slow on a backlog, or failed at a lower rate
        return CANNOT if figures.error is None else NOT_MEASURED
    if age.p50_ms is None or age.p99_ms is None:
        return CANNOT
    return f"{_number(age.p50_ms, 1)} / {_number(age.p99_ms, 1)}"


BAR_HEAD = ["", "wanted", "measured", ""]


def _bar_row(bar: Bar) -> list[str]:
    digits = 0 if bar.limit >= 1_000 else 1 if bar.limit >= 5 else 2
    verdict = {None: "not measured", True: "reached", False: "not reached"}[bar.reached]
    wanted = f"{'≥' if bar.at_least else '≤'} {_number(bar.limit, digits).removesuffix('.0')} {bar.unit}"
    return [
        bar.what,
        wanted,
        f"{_number(bar.value, digits)} {bar.unit if bar.value is not None else ''}".strip(),
        verdict,
    ]


def _circumstances(run: Run) -> list[str]:
    machine = run.machine
    lines = [
        f"{run.date}, {machine['system']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    ]
    if run.others_before is not None:
        during = [
            share
            for figures in run.figures.values()
            for share in (*(b.others for b in figures.backlogs), *(a.others for a in figures.ages))
            if share is not None
        ]
        most = f", at most {max(during):.0%} during a measurement" if during else ""
        busy = max([run.others_before, *during]) > BUSY
        warning = ": too busy a machine, not even the ratios can be relied on" if busy else ""
        lines.append(f"other programs used {run.others_before:.0%} of the machine before the run{most}{warning}")
    return lines


def _number(value: float | None, digits: int = 0) -> str:
    return NOT_MEASURED if value is None else f"{value:,.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" if "ms" in h or h in _RIGHT else "---" for h in head[1:])]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


_RIGHT = (
    *("share of copy", "events/s", "CPU µs/event", "memory MB", "cold start s", "wanted", "measured"),
    *("partitions", "first answer s", "customer events/s", "÷ the scorer's"),
)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = [h in _RIGHT or "ms" in h for h in head]
    return [
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in (head, *rows)
    ]
