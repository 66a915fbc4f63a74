"""Bounded fuzzing of everything in `targets`: `PYTHONPATH=tests python -m hostile.fuzz --minutes 60`.

Two engines in turn. `mutate` changes valid documents and earlier findings, on any Python. Where atheris can be
imported, libFuzzer follows, guided by the branches of this code. What is found is written to `found/`, which the tests
read again for ever; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

HERE = Path(__file__).parent

FOUND = HERE / "found"
# Of one target in the long form: then the next has its turn.
TURN_S = 10.0
KEPT = 400
MEMORY_BYTES = 3 << 30


def found() -> list[tuple[str, Path]]:
    """(target, file) of everything that was once found."""
    return [(path.name.split("-")[0], path) for path in sorted(FOUND.glob("*-*"))]


class Mutating:
    """Mutates earlier inputs of each target; an input with a new result is kept and mutated further."""

    def __init__(self, seed: int) -> None:
        from hostile import targets

        self._run, self._error = targets.run, targets.FoundError
        self._draw = Random(seed)
        self.pools = targets.seeds()
        for name, path in found():
            self.pools[name].append(path.read_bytes())
        self.executions: Counter[str] = Counter()
        self.words: dict[str, Counter[str]] = {name: Counter() for name in self.pools}
        self.findings: dict[tuple[str, str], bytes] = {}

    def spend(self, name: str, executions: int) -> None:
        """Run a target this number of times."""
        from hostile.mutate import mutate

        pool, words = self.pools[name], self.words[name]
        for _ in range(executions):
            data = mutate(self._draw.choice(pool), self._draw, pool)
            self.executions[name] += 1
            try:
                word = self._run(name, data)
            except self._error as error:
                kind = f"{type(error.__cause__).__name__}: {str(error.__cause__)[:80]}"
                self.findings.setdefault((name, kind), data)
                continue
            words[word] += 1
            if words[word] <= 5 and len(pool) < KEPT:
                pool.append(data)


def mutating(minutes: float, seed: int) -> int:
    """Every target in turn until the time is over; prints what was done; how many findings there are."""
    fuzzer = Mutating(seed)
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        for name in fuzzer.pools:
            turn = time.monotonic() + min(TURN_S, 60 * minutes / len(fuzzer.pools))
            while time.monotonic() < min(turn, until):
                fuzzer.spend(name, 50)
    for name, number in fuzzer.executions.items():
        words = ", ".join(f"{word} {times}" for word, times in fuzzer.words[name].most_common(6))
        print(f"{name:12} {number:10,} executions, {len(fuzzer.words[name])} outcomes: {words}")  # noqa: T201
    for (name, kind), data in fuzzer.findings.items():
        keep(name, data)
        print(f"FOUND {name}: {kind}: {data[:300]!r}")  # noqa: T201
    print(f"mutation, seed {seed}: {sum(fuzzer.executions.values()):,} executions, {len(fuzzer.findings)} findings")  # noqa: T201
    return len(fuzzer.findings)


def keep(name: str, data: bytes) -> None:
    """Write a finding where the tests look for it."""
    FOUND.mkdir(exist_ok=True)
    (FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)


def guided(minutes: float, seed: int) -> int:
    """LibFuzzer on every target, each in a separate process, for its share of the time."""
    from hostile import targets

    share_s = max(1, round(60 * minutes / len(targets.TARGETS)))
    failed = 0
    for name in targets.TARGETS:
        done = subprocess.run(
            [sys.executable, __file__, "--guided", name, "--seconds", str(share_s), "--seed", str(seed)],
            check=False,
            capture_output=True,
            text=True,
        )
        (last,) = [line for line in done.stderr.splitlines() if line.startswith("Done ")] or [done.stderr[-1500:]]
        print(f"{name:12} {last}")  # noqa: T201
        failed += done.returncode != 0
    print(f"guided, seed {seed}: {failed} targets with findings")  # noqa: T201
    return failed


def guide(name: str, seconds: int, seed: int) -> None:
    """In a separate process: libFuzzer until the time is over or there is a finding. Does not return."""
    import atheris

    packages = ["schemas", "scorer", "drift_worker", "driftline"]
    with atheris.instrument_imports(include=packages):
        from hostile import targets
    from hostile.mutate import MAX_BYTES, mutate

    pool = [*targets.seeds()[name], *(path.read_bytes() for target, path in found() if target == name)]

    def one(data: bytes) -> None:
        try:
            targets.run(name, data)
        except targets.FoundError:
            keep(name, data)
            raise

    def vary(data: bytes, max_size: int, number: int) -> bytes:
        if number % 4 == 0:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(data or pool[number % len(pool)], Random(number), pool)[:max_size]

    import tempfile

    # libFuzzer ends without a call to Python, so the folder would remain: the system's own is
    corpus = Path(tempfile.mkdtemp(prefix="fuzz"))
    for i, data in enumerate(pool):
        (corpus / str(i)).write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={MAX_BYTES}",
        "-timeout=60",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([sys.argv[0], str(corpus), *options, f"-artifact_prefix={corpus}/"], one, custom_mutator=vary)
    atheris.Fuzz()


def main() -> int:
    """Both engines, half of the time each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", help="one target, with libFuzzer, in this process")
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    os.chdir(HERE.parents[1])
    # a document that makes a reader allocate without bound is a finding, and not the end of this machine
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    if asked.guided:
        guide(asked.guided, asked.seconds, asked.seed)
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris cannot be imported by this Python: mutation alone, for all of the time")  # noqa: T201
        return int(mutating(asked.minutes, asked.seed) > 0)
    findings = mutating(asked.minutes / 2, asked.seed)
    return int(guided(asked.minutes / 2, asked.seed) + findings > 0)


if __name__ == "__main__":
    sys.exit(main())
