"""A run → docs/quality.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quality.cases import KINDS_OF_CASES, MOVED, QUIET
from quality.contest import Line
from quality.rows import Row
from quality.shares import Share, percent

OPENING = """\
Written by `make quality`.
It measures false, missed, late and repeated alerts on streams whose truth is known. Each row has the project's target
and the figure of this run."""

WEAKER = """
**This run had {:.0%} of the trials and windows that the bars need**; the intervals show the uncertainty."""

AS_THEY_ARE = """\
Neighbouring events are alike, or customers of a week differ from those of a weekend; nothing drifts. The first day, in
which a stream is learnt, counts."""

OF_STREAMS = """\
Known: a weekly rhythm whose Saturdays exceed the limit is announced each week (`DRIFT_BASELINE=week` is for it). A mix
that varies over many hours moves windows of a day. Those are compared with the reference alone, and know only how much
the windows within a day vary."""

SMALL = """\
Windows of 15 minutes with 100 events, or 20, are judged together with those before them
([ADR 13](adr/0013-spans.md))."""

TOGETHER = """\
11 features that depend on each other (`tests/quality/together.py`), n = 7,000, m = 1,500: four windows without drift,
then three with it. (p) has ten features, three of them with a twin that the model never reads."""

OF_PREDICTIONS = """\
The customers are those of (l), m = 500. A regression predicts skewed amounts, a model of four classes the likeliest
one; both depend on the region. Only pages about the prediction are counted.

Known: classes that follow the region move with every mix of regions, and a batch is a tenth of a quarter hour here. A
change of classes then needs longer than an hour to differ from the stream's own past."""

#: Figures that a run does not repeat, each with its date and how it was measured.
APART = Path(__file__).with_name("apart.md")

# Title, letters of its rows, the text before its table, the text behind it. Rows of no section are in the first.
SECTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("Bars", "abcdefghijk", "", ""),
    ("Streams as they really are", "lmn", AS_THEY_ARE, OF_STREAMS),
    ("Small streams", "r", SMALL, ""),
    ("Features together", "op", TOGETHER, ""),
    ("Predictions of other tasks", "q", OF_PREDICTIONS, ""),
)

METHOD = """\
- Streams are drawn, so that the truth is known: 25 features and a score, a reference of n rows, windows of m events. 15
  features are numbers (bell-shaped, skewed, heavy-tailed, whole, mostly zero, few values), 10 have 2 to 50 categories.
  `tests/quality/stream.py` draws them from fixed seeds.
- The production code counts, measures, decides and announces; Kafka, clocks and files are left out. Settings are the
  defaults.
- *Page* means an episode opened, of either severity. An interval is Wilson's, 95 %.
- Rows: `tests/quality/rows.py`, one function each. In (a), (d) and (e) windows share references, as in production. In
  (b), (c), (f) and (g) every trial has a separate reference, because windows that share one are not independent.
- (b) counts a window in which the rule itself finds the feature significant. That is Benjamini and Hochberg's rule over
  all tests of the window, at the level a that follows from the budget; a is the median over the trials.
- (d) moves every feature, the categories too, by 0.15 standard deviations of an underlying normal variable. In units of
  its own deviation a lognormal would not be harmless: its tail dominates the deviation, and 0.15 of it move the median
  by a third.
- (l) and (m) are streams of a small table (6 numbers, 3 categories) whose features depend on a region, 500 events a
  quarter hour, in windows of 15 minutes, an hour and a day together (`tests/quality/natural.py`). The reference is
  drawn over the same mix of regions. The first day, in which the stream is learnt, counts. The interval is that of a
  Poisson rate, 95 %. (r) is the same with 100 and with 20 events a quarter hour.
- `make test` measures the same rows, except those of (j) and (k), with fewer trials.
"""

PEERS_METHOD = """\
- All tools get the same streams, as files: the reference and the windows, without the score. Each is used as its
  documentation shows, with its defaults, in a separate environment (`tests/quality/peers`: a script, requirements and
  a lock file each).
- An alarm where nothing matters has moved is a window with at least one column reported as drifted (for *data set*: the
  data set). For Driftline it is a window at whose end an episode is open.
- A drift is found if the column that moves is reported in one of the first three windows with it (for *data set*: if
  the data set is).
- A library that raises an error on a stream raises no alarm there. The number of such streams is below the table.
- Time covers making the detector, reading the windows and the result, per window; for Driftline with counting.
"""

CAVEATS = """\
- The streams are synthetic, and made by the authors of the rules. Features are independent of each other; real ones
  are not, and real customers come back.
- The peers are general tools. Most let you choose tests, thresholds and corrections, and other choices give other
  figures. The comparison is between results without a choice.
- Peers decide on one window at a time, Driftline on up to three: a peer can be a window earlier. Tests without a limit
  for the effect find shifts below 0.1, which Driftline leaves out on purpose.
- River's detectors are made for concept drift in a stream of values, not for windows against a reference.
- The share of alarms depends on the number of columns, on n and on m. A tool with few alarms here can have many where
  windows are small.
- The first table of the comparison adds up streams of several kinds, in the mix that was drawn. Prefer the tables by
  kind.
- Times, rows (k) among them, depend on the machine and its other load: see what other programs used.
"""


@dataclass(frozen=True)
class Run:
    """What was measured, when and where. lines: of the comparison; empty if it was left out.

    strength: share of the full number of trials.
    """

    date: str
    machine: Sequence[str]
    rows: Sequence[Row]
    lines: Sequence[Line]
    strength: float = 1.0


def as_markdown(run: Run) -> str:
    """The whole page."""
    parts = [
        "# Quality of the alerts",
        OPENING + ("" if run.strength == 1.0 else WEAKER.format(run.strength)),
        "![alarms where nothing moved and drifts that were found](quality.svg)",
        *_bars(run.rows),
        "## Measured apart",
        APART.read_text(encoding="utf-8").strip(),
        "## Beside other tools",
        *_comparison(run.lines),
        "## Method",
        METHOD.rstrip(),
        "## Machine and versions",
        "\n".join(f"- {line}" for line in run.machine),
        "## Caveats",
        CAVEATS.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def _bars(rows: Sequence[Row]) -> list[str]:
    """Return a section for each kind of rows; one without rows is left out, and no row is."""
    parts: list[str] = []
    placed = set("".join(letters for _, letters, _, _ in SECTIONS))
    for number, (title, letters, before, behind) in enumerate(SECTIONS):
        own = [row for row in rows if row.letter in letters or (number == 0 and row.letter not in placed)]
        if own:
            table = "\n".join(_table(["", "what", "wanted", "measured", ""], [_row(row) for row in own]))
            parts += [f"## {title}", *([before] if before else []), table, *([behind] if behind else [])]
    return parts


def _row(row: Row) -> list[str]:
    verdict = {None: "–", True: "reached", False: "**not reached**"}[row.reached]
    return [f"({row.letter})", row.what, row.bar, row.measured, verdict]


def _comparison(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return ["Not measured in this run."]
    measured = [line for line in lines if line.why_not is None]
    both = [
        [line.contestant.title, line.contestant.how, _share(line.over(False)), _share(line.over(True)), _ms(line)]
        for line in measured
    ]
    notes = [f"- {line.contestant.title}: {line.why_not}" for line in lines if line.why_not is not None]
    notes += [
        f"- {line.contestant.title}: an error in {line.errors} streams, the first: `{_one_line(line.error)}`"
        for line in measured
        if line.errors
    ]
    licences = dict.fromkeys(
        f"{line.contestant.requirements}: {line.contestant.licence}" for line in lines if line.contestant.licence
    )
    return [
        "Percent, with the 95 % interval.",
        "\n".join(
            _table(["", "used", "windows that alarm although nothing matters moved", "drifts found", "ms/window"], both)
        ),
        "Windows that alarm, by what there was in them:",
        "\n".join(_by_kind(measured, QUIET)),
        "Drifts found within three windows, n = 7,000, m = 1,500:",
        "\n".join(_by_kind(measured, MOVED)),
        *(["\n".join(notes)] if notes else []),
        PEERS_METHOD.rstrip(),
        f"Licences of the peers, which are installed for this comparison only: {'; '.join(licences)}.",
    ]


def _by_kind(lines: Sequence[Line], kinds: Sequence[object]) -> list[str]:
    some = [kind for kind in KINDS_OF_CASES if kind in kinds]
    body = [[line.contestant.title, *(_share(line.shares.get(kind.name)) for kind in some)] for line in lines]
    n = {name: share.n for line in lines for name, share in line.shares.items()}
    return _table(["", *(f"{kind.title} (of {n.get(kind.name, 0)})" for kind in some)], body)


def _share(share: Share | None) -> str:
    if share is None:
        return "–"
    low, high = share.interval
    return f"{percent(share.value)} ({percent(low)} – {percent(high)})"


def _ms(line: Line) -> str:
    return "–" if line.ms_per_window is None else f"{line.ms_per_window:,.0f}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("`", "'").split())[:160]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (head, *body)]
    return [f"| {' | '.join(row)} |" for row in (escaped[0], ["---"] * len(head), *escaped[1:])]
