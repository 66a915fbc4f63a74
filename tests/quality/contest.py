"""Ours, the textbook's rule and other drift libraries on the same streams, in one run.

A peer is one entry of `CONTESTANTS`, one script in peers/, and its pinned requirements there. It is installed into a
separate environment at its first use, as the peers of `driftline bench` are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from quality.cases import KINDS_OF_CASES, Case, Kind, cases
from quality.shares import Share
from quality.stream import POLICY, Stream

from bench.environments import python_for
from driftline.errors import CommandError
from driftline.evidently.write import FOLDER

PEERS = Path(__file__).parent / "peers"
PINS = {"evidently": FOLDER}  # where a lock lies, if not in peers/
DATASET = "(dataset)"  # as in peers/streams.py
_TIMEOUT_S = 1200


@dataclass(frozen=True)
class Contestant:
    """script: in peers/, None for ours. requirements: in peers/, None for our own environment.

    policy: of ours. verdict: whose word counts as an alarm, a column's or the whole data set's.
    """

    title: str
    how: str
    script: str | None = None
    requirements: str | None = None
    licence: str | None = None
    policy: Literal["calibrated", "classic"] | None = None
    verdict: Literal["columns", "dataset"] = "columns"


CONTESTANTS = (
    Contestant("Driftline", "the default policy, 15m windows, 2 of 3", policy="calibrated"),
    Contestant("Driftline, policy classic", "the textbook's rule on our cells, 2 of 3 windows", policy="classic"),
    Contestant("textbook", "PSI > 0.2 or KS p < 0.05 per column, numpy and scipy", "textbook.py"),
    Contestant("Evidently, any column", "DataDriftPreset, a column's test", "evidently_preset.py", "evidently",
               "Apache-2.0"),
    Contestant("Evidently, data set", "DataDriftPreset, at least half of the columns", "evidently_preset.py",
               "evidently", "Apache-2.0", verdict="dataset"),
    Contestant("Alibi Detect", "TabularDrift, KS and χ² with Bonferroni's correction at 5 %", "alibi_tabular.py",
               "alibi-detect", "Apache-2.0 (0.11.4, the last such version; later ones BSL 1.1)"),
    Contestant("NannyML", "UnivariateDriftCalculator, Jensen-Shannon distance", "nannyml_univariate.py", "nannyml",
               "Apache-2.0"),
    Contestant("River", "ADWIN per numeric column", "river_adwin.py", "river", "BSD-3-Clause"),
    Contestant("Frouros", "KS and χ² per column at 0.001, as in its quick start", "frouros_tests.py", "frouros",
               "BSD-3-Clause"),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """One contestant's result for one case: the columns it named, per window that counts."""

    windows: list[set[str]]
    error: str | None
    seconds: float


@dataclass
class Line:
    """What came of one contestant. shares: by kind of case. why_not: if it could not be measured at all."""

    contestant: Contestant
    shares: dict[str, Share] = field(default_factory=dict)
    errors: int = 0
    error: str | None = None
    ms_per_window: float | None = None
    why_not: str | None = None

    def over(self, alarm: bool) -> Share | None:
        """All cases of the kinds in which an alarm is right, or of those in which it is wrong."""
        some = [self.shares[kind.name] for kind in KINDS_OF_CASES if kind.alarm is alarm and kind.name in self.shares]
        return Share(sum(share.hits for share in some), sum(share.n for share in some)) if some else None


def tally(contestant: Contestant, answers: dict[str, Answer]) -> Line:
    """Alarms per window where nothing matters has moved, drifts found per case where it has."""
    line = Line(contestant)
    dataset = contestant.verdict == "dataset"
    for kind in KINDS_OF_CASES:
        hits = n = 0
        for number in range(kind.cases):
            answer = answers.get(Case.name_of(kind.name, number))
            if answer is None:
                continue
            if kind.alarm:
                named = DATASET if dataset else kind.moved
                hits, n = hits + any(named in window for window in answer.windows), n + 1
            else:
                called = [DATASET in window if dataset else bool(window - {DATASET}) for window in answer.windows]
                # a window that ended in an error raised no alarm
                hits, n = hits + sum(called), n + kind.windows
        if n:
            line.shares[kind.name] = Share(hits, n)
    failed = [answer.error for answer in answers.values() if answer.error]
    line.errors, line.error = len(failed), failed[0] if failed else None
    looked = sum(len(answer.windows) for answer in answers.values())
    line.ms_per_window = 1e3 * sum(answer.seconds for answer in answers.values()) / looked if looked else None
    return line


def ours(case: Case, kind: Kind, contestant: Contestant) -> Answer:
    """The features with an open episode at the end of each window, through the engine's own path."""
    started = time.perf_counter()
    policy = replace(POLICY, kind=contestant.policy or "calibrated")
    stream = Stream(case.number, kind.n, kind.length, policy, case.reference)
    windows = []
    for i, events in enumerate(case.windows):
        stream.close(events)
        if i >= case.before:
            windows.append({name or "score" for name in stream.firing})
    return Answer(windows, None, time.perf_counter() - started)


def run(folder: Path, strength: float, say: Callable[[str], None], only: str | None = None) -> list[Line]:
    """Everybody on every case; one who cannot be installed or run has the reason in its line.

    strength: which share of the cases is drawn.
    """
    contestants = [c for c in CONTESTANTS if only is None or only in {c.script, c.requirements, c.policy}]
    answers: dict[str, dict[str, Answer]] = {c.title: {} for c in contestants if c.policy}
    for kind in KINDS_OF_CASES:
        for case in cases(kind, strength):
            case.write(folder)
            for contestant in contestants:
                if contestant.policy:
                    answers[contestant.title][case.name] = ours(case, kind, contestant)
        say(f"streams: {kind.title}")
    said: dict[str, dict[str, Answer] | str] = {}
    lines = []
    for contestant in contestants:
        if contestant.script is not None and contestant.script not in said:
            said[contestant.script] = _ask(contestant, folder, say)
        found = answers[contestant.title] if contestant.script is None else said[contestant.script]
        line = Line(contestant, why_not=found) if isinstance(found, str) else tally(contestant, found)
        lines.append(line)
        say(f"{contestant.title}: {line.why_not or f'{line.over(False)} false, {line.over(True)} found'}")
    return lines


def _ask(contestant: Contestant, folder: Path, say: Callable[[str], None]) -> dict[str, Answer] | str:
    """The answers of a script by case, or why there are none."""
    try:
        python = python_for(contestant.requirements, say, PINS.get(contestant.requirements or "", PEERS))
    except CommandError as error:
        say(f"{contestant.requirements}: {error}")
        return f"cannot be installed on Python {platform.python_version()} and {platform.system()}"
    command = [str(python), str(PEERS / str(contestant.script)), str(folder)]
    # our own modules are on PYTHONPATH, and none of the peers' business
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"took more than {_TIMEOUT_S} s"
    if done.returncode != 0:
        say(done.stderr[-2000:])
        return _without_paths((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return dict(_answers(done.stdout))


def _without_paths(text: str) -> str:
    """An error for the page: without paths of this machine."""
    return re.sub(r"(?<!\w)/\S+", "…", text)[:300]


def _answers(output: str) -> Iterator[tuple[str, Answer]]:
    for text in output.splitlines():
        if text.startswith('{"case"'):  # a library may print, too
            said = json.loads(text)
            error = None if said["error"] is None else _without_paths(said["error"])
            yield said["case"], Answer([set(w) for w in said["windows"]], error, said["seconds"])


def versions() -> dict[str, str]:
    """Of the peers, as their requirements pin them."""
    found = {}
    for path in sorted([*PEERS.glob("*.in"), *FOLDER.glob("*.in")]):
        name, version = re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)[0]
        found[name] = version
    return found
