"""What one run of a fault test did and saw, and when: red runs can be looked at afterwards, green ones counted.

The tests' tools record it (`oracle`, `services`, `proxy`, `brokers`). One test runs at a time, so there is one
`current` run, None outside the fault matrix.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.oracle import Answer, Reader

# Where failing runs lie; `make clean` removes it.
KEPT = Path("artifacts/chaos")


@dataclass
class Run:
    """One run of one test of the matrix."""

    rows: tuple[int, ...]
    test: str
    seed: int
    long: bool
    started: float = field(default_factory=time.time)
    sent: list[tuple[float, str, int, int]] = field(default_factory=list)  # when, topic, partition, offset
    marks: list[tuple[float, str]] = field(default_factory=list)  # faults and their ends
    readers: list[Reader] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    counted: int = 0
    lost: int = 0
    duplicated: int = 0

    def verdict(self, events: int, lost: int, duplicated: int) -> None:
        """Note an oracle's result; called before it fails."""
        self.counted += events
        self.lost += lost
        self.duplicated += duplicated

    def answers(self) -> list[Answer]:
        """Return the answers that were seen, in that order."""
        return sorted((answer for reader in self.readers for answer in reader.answers), key=lambda a: a.seen)

    def recovered_s(self) -> float | None:
        """Return the longest wait for the next answer after a fault or its end; None without any.

        The wait begins with the last of them before that answer. If everything was answered at that moment, it begins
        with the first record sent after it: without unanswered records there is no wait.
        """
        seen = [answer.seen for answer in self.answers()]
        sent = sorted(at for at, *_ in self.sent)
        waits = []
        for i, (began, ended) in enumerate(zip([self.started, *seen], seen, strict=False)):
            within = [at for at, _ in self.marks if began <= at < ended]
            if not within:
                continue
            answered, asked = i, sum(at <= within[-1] for at in sent)
            since = within[-1] if asked > answered else next((at for at in sent if at > within[-1]), ended)
            waits.append(max(0.0, ended - since))
        return max(waits, default=None)

    def record(self, outcome: str) -> str:
        """Return one JSON line per row."""
        recovered = self.recovered_s()
        common = {
            "test": self.test,
            "seed": self.seed,
            "long": self.long,
            "outcome": outcome,
            "events": self.counted,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "recovered_s": None if recovered is None else round(recovered, 2),
            "seconds": round(time.time() - self.started, 1),
            "started": round(self.started),
        }
        return "".join(json.dumps({"row": row, **common}) + "\n" for row in self.rows)

    def keep(self, why: str) -> Path:
        """Keep everything that helps to understand a failure, in a separate folder."""
        what = "-".join(["row", *map(str, self.rows)]) if self.rows else "soak"
        KEPT.mkdir(parents=True, exist_ok=True)
        begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self.started))
        folder = Path(tempfile.mkdtemp(prefix=f"{what}-{begun}-{self.seed}-", dir=KEPT.resolve()))
        (folder / "failure.txt").write_text(f"{self.test}\nseed {self.seed}\n\n{why}\n", encoding="utf-8")
        (folder / "run.json").write_text(self.record("failed"), encoding="utf-8")
        lines = [f"{at:.3f}\tsent\t{topic}\t{p}\t{offset}" for at, topic, p, offset in self.sent]
        lines += [f"{at:.3f}\tfault\t{what}" for at, what in self.marks]
        for a in self.answers():
            source = "\t".join(map(str, a.source)) if a.stamped else "?\t?"
            lines.append(f"{a.seen:.3f}\tanswer\t{a.topic}\t{a.partition}\t{a.offset}\t{source}\t{a.reason or ''}")
        (folder / "history.tsv").write_text("\n".join(sorted(lines)) + "\n", encoding="utf-8")
        for log in self.logs:
            if log.exists():
                shutil.copy(log, folder / (log.name if log.suffix else f"{log.name}.log"))
        return folder


current: Run | None = None


def mark(what: str) -> None:
    """Note a fault, or the end of one, now."""
    if current is not None:
        current.marks.append((time.time(), what))


def sent(topic: str, partition: int, offset: int) -> None:
    """Note that the broker has acknowledged an upstream record."""
    if current is not None:
        current.sent.append((time.time(), topic, partition, offset))


def log(path: Path) -> None:
    """Note the log file of a process of this test."""
    if current is not None and path not in current.logs:
        current.logs.append(path)


def reader(found: Reader) -> None:
    """Note a reader of the answers."""
    if current is not None:
        current.readers.append(found)


def verdict(events: int, lost: int, duplicated: int) -> None:
    """Note an oracle's count."""
    if current is not None:
        current.verdict(events, lost, duplicated)
