"""A run → docs/quality.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cases import KINDS_OF_CASES, MOVED, QUIET
from contest import Line
from rows import Row
from shares import Share, percent

OPENING = """\
Written by `make quality`.
False, missed, late and repeated alerts on streams whose truth is known: what the project wants to reach, and what this
run measured."""

WEAKER = """
**This run had {:.0%} of the trials and windows that the bars ask for**; the intervals say what that leaves open."""

METHOD = """\
- Streams are drawn, so that the truth is known: 25 features (15 numbers: bell-shaped, skewed, heavy-tailed, whole,
  mostly zero, few values; 10 features with 2 to 50 categories) and a score; a reference of n rows, windows of m events.
  `tests/quality/stream.py` draws them from fixed seeds.
- Events are counted, measured, judged and announced by the code that runs in production; Kafka, clocks and files are
  left out. Settings are the defaults.
- *Page* means an episode opened, of either severity. An interval is Wilson's, 95 %.
- Rows: `tests/quality/rows.py`, one function each. In (a), (d) and (e) windows share references, as in production; in
  (b), (c), (f) and (g) every trial has a reference of its own, because windows that share one are not independent.
- (b) counts a window in which the rule itself, Benjamini and Hochberg's over all tests of the window at the level a
  that follows from the budget, calls the feature significant; a is the median over the trials.
- (d) moves every feature, the categories too, by 0.15 standard deviations of a normal variable behind it. In units of
  its own deviation a lognormal would not be harmless: its tail makes the deviation, and 0.15 of it move the median by
  a third.
- `make test` measures the same rows, but for those of (j) and (k), with fewer trials.
"""

PEERS_METHOD = """\
- Everybody sees the same streams, as files: the reference and the windows, without the score. Each is used as its
  documentation shows, with its defaults, in an environment of its own (`tests/quality/peers`: a script, requirements
  and a lock file each).
- An alarm where nothing matters has moved: a window in which at least one column (for *data set*: the data set) is
  called drifted. Of ours: a window at whose end an episode is open.
- A drift is found if the column that moves is named in one of the first three windows with it (for *data set*: if the
  data set is called drifted).
- A library that raises an error on a stream raises no alarm there; how often that happened stands below the table.
- Time: of making the detector, looking at the windows and answering, per window looked at; for ours with counting.
"""

CAVEATS = """\
- The streams are made up, and by the same people as the rules. Features are independent of each other; real ones are
  not, and real customers come back.
- The peers are general tools: most let one choose tests, thresholds and corrections, and with others the figures would
  be others. What is compared is what one gets without choosing.
- They decide on one window at a time, ours on up to three: a peer can be a window earlier. Tests without a limit for
  the effect find shifts below 0.1 that ours leaves out on purpose.
- River's detectors are made for concept drift in a stream of values, not for windows against a reference.
- The share of alarms depends on the number of columns, on n and on m; a tool with few alarms here can have many where
  windows are small.
- The first table of the comparison adds up streams of several kinds, in the mix that was drawn; the tables by kind are
  what to read.
- Times, rows (k) among them, depend on the machine and on what else it does: see what other programs used.
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
        "## Bars",
        "\n".join(_table(["", "what", "wanted", "measured", ""], [_row(row) for row in run.rows])),
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
        f"Licences of what was installed for this comparison, and is no part of the project: {'; '.join(licences)}.",
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
