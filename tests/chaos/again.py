"""`make chaos`: the fault tests in their long forms, in random order, again and again; and docs/chaos.md about them.

python tests/chaos/again.py [--row N] [--seed S] [--minutes M] [--record FILE]
python tests/chaos/again.py --write [--record FILE]
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
RECORDS = Path("artifacts/chaos/records.jsonl")
FOLDERS = ("tests/chaos", "tests/integration", "tests/unit/scorer/test_reload.py")
PAGE = """\
# Chaos: every fault, again and again

Written by `python tests/chaos/again.py --write` from the records of `make chaos`; do not edit.

`make chaos` runs the tests of the fault matrix in their long forms, on a real broker, or on three where the row needs
them. The file [delivery.md](delivery.md) lists what each row breaks, what must hold and where its tests are.
`ROW=8` runs only that row, `SEED=7` uses that seed, `MINUTES=30` repeats all in random order for that long.
A reader that shares no code with the services watches all the time.
A run that fails keeps its seed, its history (sent, answered, broken, and when) and every log. They are in a folder
under `artifacts/chaos` that its message names.

- **Runs** are runs of a test; a row may have several tests. **Red** are those that failed, for any reason.
- **Lost** and **duplicated** are counted by the reader, in records. In row 25 they are windows with another count and
  windows measured twice. Tests without answers have no events.
- **Recovery** is how long the next answer took after a fault or its end, the longest of a run. It counts from the last
  of them, or from the first event after it if everything had been answered. Median and maximum over the runs.

{when}

| row | fault | runs | red | events | lost | duplicated | recovery, median / longest |
| --- | --- | --- | --- | --- | --- | --- | --- |
{table}
| | **all** | {runs} | {red} | {events:,} | {lost} | {duplicated} | |

## When a token expires

A broker ends a session with its token. aiokafka's own connections are then closed, and the producers are made anew.
Ours log in again before ([delivery.md](delivery.md#non-obvious), 22). The long form of row 27 requires that 99 % of the
events are answered within 1 s of being sent. Both runs had tokens of 10 s and up to 200 events a second. In the second
one the issuer was away for a renewal.

| connections | tokens | events | lost | duplicated | 99 % answered within | producers made anew |
| --- | --- | --- | --- | --- | --- | --- |
| closed at each expiry | 27 | 5,390 | 0 | 0 | 4.6 s | 42 |
| that log in again | 28 | 4,590 | 0 | 0 | 0.5 s | 0 |

`pytest --long -s tests/integration/test_oauth.py`, 2026-11-30, 2 cores that also compiled, Apache Kafka 4.3.1.
"""


def main() -> int:
    """0 if every run was green."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float, help="again and again for so long; without it, once")
    parser.add_argument("--record", type=Path, default=RECORDS)
    parser.add_argument("--write", action="store_true", help="only write docs/chaos.md from the records")
    arguments = parser.parse_args()
    if arguments.write:
        records = [json.loads(line) for line in arguments.record.read_text(encoding="utf-8").splitlines()]
        faults = faults_of((ROOT / "docs" / "delivery.md").read_text(encoding="utf-8"))
        (ROOT / "docs" / "chaos.md").write_text(page(records, faults), encoding="utf-8")
        return 0
    return run(arguments.row, arguments.seed, arguments.minutes, arguments.record)


def run(row: int | None, seed: int | None, minutes: float | None, record: Path) -> int:
    """Pass after pass, each with the next seed."""
    until = None if minutes is None else time.time() + 60 * minutes
    first = secrets.randbelow(1 << 31) if seed is None else seed
    worst, number = 0, 0
    while number == 0 or (until is not None and time.time() < until):
        options = ["--long", "-m", "row", "--seed", str(first + number), f"--randomly-seed={first + number}"]
        options += ["--record", str(record)] + ([] if row is None else ["--row", str(row)])
        options += [] if until is None else ["--until", str(until)]
        sys.stdout.write(f"pass {number + 1}, seed {first + number}\n")
        sys.stdout.flush()
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", *options, *FOLDERS], cwd=ROOT, check=False)
        worst = max(worst, done.returncode)
        number += 1
    return worst


def faults_of(delivery: str) -> dict[int, str]:
    """Row → fault, as docs/delivery.md names them."""
    table = delivery.partition("## Every fault is a test")[2].partition("\n### ")[0]
    return {int(row): fault for row, fault in re.findall(r"^\| (\d+) \| (.*?) \|", table, re.MULTILINE)}


def page(records: Iterable[dict], faults: dict[int, str]) -> str:
    """docs/chaos.md."""
    runs = [record for record in records if record["outcome"] != "skipped"]
    lines = []
    for row, fault in sorted(faults.items()):
        ours = [record for record in runs if record["row"] == row]
        lines.append(f"| {row} | {fault} | {' | '.join(figures(ours))} | {recovery(ours)} |")
    days = sorted({time.strftime("%Y-%m-%d", time.gmtime(record["started"])) for record in runs})
    when = (
        f"{' to '.join(dict.fromkeys([days[0], days[-1]]))}, 2 cores, Apache Kafka 4.3.1." if days else "No runs yet."
    )
    return PAGE.format(
        when=when,
        table="\n".join(lines),
        runs=len(runs),
        red=sum(record["outcome"] == "failed" for record in runs),
        **{name: sum(record[name] for record in runs) for name in ("events", "lost", "duplicated")},
    )


def figures(runs: list[dict]) -> tuple[str, ...]:
    """Runs, red ones, and the three sums."""
    red = sum(record["outcome"] == "failed" for record in runs)
    sums = (f"{sum(record[name] for record in runs):,}" for name in ("events", "lost", "duplicated"))
    return (str(len(runs)), str(red), *sums)


def recovery(runs: list[dict]) -> str:
    """Median and longest, in seconds."""
    found = [record["recovered_s"] for record in runs if record["recovered_s"] is not None]
    return f"{median(found):.1f} s / {max(found):.1f} s" if found else "–"


if __name__ == "__main__":
    raise SystemExit(main())
