"""The short form of `make fuzz`: what was ever found is read again, and every target has a second of mutations."""

from __future__ import annotations

import pytest
from hostile import targets
from hostile.fuzz import Mutating, found

SEED = 20_261_126
# Of each target: together a few seconds.
EXECUTIONS = {"event": 40, "manifest": 100, "spec": 100}


@pytest.mark.parametrize(("name", "path"), found(), ids=lambda part: getattr(part, "name", part))
def test_what_was_found_once_is_refused_or_read(name, path):
    """Every finding that was mended."""
    targets.run(name, path.read_bytes())


# An optional library, which needs Rust. Where it is built, its target is fuzzed as the others are.
NOT_BUILT = pytest.param("native", marks=pytest.mark.skip(reason="driftline-native is not built: make native"))


@pytest.mark.parametrize("name", [*targets.TARGETS, *(() if targets.NATIVE else (NOT_BUILT,))])
def test_mutations_of_valid_documents_are_refused_or_read(name):
    """Nothing but the code's own refusals, two ways to a verdict agree, and none takes a second."""
    fuzzer = Mutating(SEED)
    for data in fuzzer.pools[name]:
        targets.run(name, data)
    fuzzer.spend(name, EXECUTIONS.get(name, 300))
    assert not fuzzer.findings
    assert len(fuzzer.words[name]) > 1, "all are refused alike: nothing was tried"


def test_a_decoder_that_is_wrong_is_found(monkeypatch):
    """The planted bug: the fast decoder passes no event to the definition, for any numbers."""
    monkeypatch.setattr("schemas.event._FormDecoder._doubtful", lambda *_: [])
    fuzzer = Mutating(SEED)
    for _ in range(30):
        fuzzer.spend("event", 10)
        if fuzzer.findings:
            return
    raise AssertionError("not found")
