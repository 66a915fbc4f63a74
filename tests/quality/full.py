"""Every row at full strength and the comparison with other tools, printed and, with --write, in docs/quality.md.

PYTHONPATH=tests python -m quality.full --write    (make quality)

Exit 1 if a row has not reached its bar. Rows with times only give the figures, because these depend on the machine.
--only rows, --only peers, or --only NAME for one row's letter or one contestant. --strength 0.1 takes a tenth of the
trials, for a slow machine; the page then states it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from quality import contest, cost, page, picture, rows

from bench.run import machine, others_now

DOCS = Path("docs")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/quality.md and docs/quality.svg")
    parser.add_argument("--only", metavar="PART", help="rows or peers; a row's letter; a peer's name")
    parser.add_argument("--strength", type=float, default=1.0, help="share of the trials, at most 1")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write takes everything: a page of some rows would hide the others")
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - started:7.1f}s  {text}\n")
        sys.stdout.flush()

    busy = others_now()
    measured = _rows(options.only, options.strength, say)
    lines: list[contest.Line] = []
    if options.only is None or options.only == "peers" or (len(options.only) > 1 and options.only != "rows"):
        with tempfile.TemporaryDirectory(prefix="driftline-quality-") as folder:
            only = None if options.only in {None, "peers"} else options.only
            lines = contest.run(Path(folder), options.strength, say, only)
    run = page.Run(datetime.now(UTC).strftime("%Y-%m-%d"), _circumstances(busy), measured, lines, options.strength)
    if options.write:
        (DOCS / "quality.md").write_text(page.as_markdown(run), encoding="utf-8")
        (DOCS / "quality.svg").write_text(picture.as_svg(lines, run.date), encoding="utf-8")
        say("written: docs/quality.md and docs/quality.svg")
    short = [row for row in measured if row.reached is False and not row.timed]
    for row in short:
        say(f"not reached: {row}")
    return 1 if short else 0


def _rows(only: str | None, strength: float, say: Callable[[str], None]) -> list[rows.Row]:
    """Every row in the order of its letter, those that are measured elsewhere included."""
    measured = []
    if only in {None, "rows"} or (only is not None and len(only) == 1):
        for letter, measure in rows.measure(strength):
            if only in {None, "rows", letter}:
                measured.append(measure())
                say(str(measured[-1]))
    if only in {None, "rows", "k"}:
        timed = rows.cost(cost.measured())
        measured += [*timed, *rows.ELSEWHERE]
        for row in timed:
            say(str(row))
    return sorted(measured, key=lambda row: row.letter)


def _circumstances(busy: float | None) -> list[str]:
    found = machine()
    ours = ("driftline", "numpy", "scipy")
    return [
        f"{found['system']}, {found['cpu']}, {found['cores']} cores, {found['memory_gb']} GB, one thread",
        ", ".join(f"{name} {version(name)}" for name in ours) + f", python {sys.version.split()[0]}",
        "peers: " + ", ".join(f"{name} {pinned}" for name, pinned in contest.versions().items()),
        "date: " + datetime.now(UTC).strftime("%Y-%m-%d")
        + ("" if busy is None else f"; other programs used {busy:.0%} of the machine before the run"),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
