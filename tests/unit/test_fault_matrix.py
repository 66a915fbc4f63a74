"""The fault matrix is whole: every row has a test, a line in docs/delivery.md and one in docs/chaos.md."""

import ast
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import history
from support.oracle import Answer, Sent, assert_exactly_once

ROOT = Path(__file__).parents[2]
ROWS = set(range(1, 33))
DELIVERY = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")


def _again():
    spec = importlib.util.spec_from_file_location("again", ROOT / "tests" / "chaos" / "again.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _marked():
    """Row → files whose tests cover it."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                for argument in node.args:
                    found.setdefault(ast.literal_eval(argument), set()).add(path.name)
    return found


def test_every_row_has_a_test_and_each_is_where_the_document_says():
    """32 rows, no other number, and the files that are named are those whose tests carry the mark."""
    marked = _marked()
    assert set(marked) == ROWS
    table = DELIVERY.partition("## Every fault is a test")[2].partition("\n### ")[0]
    lines = {int(line.split("|")[1]): line for line in table.splitlines() if line[2:3].isdigit()}
    assert set(lines) == ROWS
    for row, files in marked.items():
        assert all(file in lines[row] for file in files), (row, files)


def test_the_page_counts_runs_and_shows_the_slowest_recovery():
    """One line a row; a red run is no green one, a skipped one is none at all."""
    again = _again()
    assert set(again.faults_of(DELIVERY)) == ROWS
    common = {"test": "t", "seed": 1, "long": True, "seconds": 1.0, "started": 1_795_705_669}
    records = [
        {**common, "row": 4, "outcome": "passed", "events": 1600, "lost": 0, "duplicated": 0, "recovered_s": 2.5},
        {**common, "row": 4, "outcome": "failed", "events": 400, "lost": 1, "duplicated": 2, "recovered_s": 7.25},
        {**common, "row": 4, "outcome": "skipped", "events": 0, "lost": 0, "duplicated": 0, "recovered_s": None},
        {**common, "row": 5, "outcome": "passed", "events": 10, "lost": 0, "duplicated": 0, "recovered_s": None},
    ]
    page = again.page(records, {4: "an intruder", 5: "guests"})
    assert "| 4 | an intruder | 2 | 1 | 2,000 | 1 | 2 | 4.9 s / 7.2 s |" in page
    assert "| 5 | guests | 1 | 0 | 10 | 0 | 0 | – |" in page
    assert "| | **all** | 3 | 1 | 2,010 | 1 | 2 | |" in page
    assert "\n2026-11-26, 2 cores" in page


def _answer(offset, source, seen):
    headers = [("driftline-source-partition", b"0"), ("driftline-source-offset", b"%d" % source)]
    return Answer("predictions", 0, offset, b"k", b"v", headers, seen)


@pytest.fixture
def run(monkeypatch):
    """A run in progress, in a separate folder."""
    run = history.Run((8,), "test", 7, long=False, started=100.0)
    monkeypatch.setattr(history, "current", run)
    return run


def test_a_duplicate_is_named_with_the_places_of_its_copies(run):
    """Partition and offset in the output and when each was seen; the run counts it before the assertion fails."""
    sent = Sent({(0, i): (b"k", b"v", []) for i in range(3)})
    answers = [_answer(0, 0, 1.0), _answer(1, 1, 2.0), _answer(3, 1, 5.5), _answer(4, 2, 6.0)]
    with pytest.raises(AssertionError, match=r"1 answered more than once: 0@1 at predictions 0@1 seen 2\.000, .*0@3"):
        assert_exactly_once(sent, answers)
    assert (run.counted, run.lost, run.duplicated) == (3, 0, 1)


def test_recovery_is_counted_from_the_last_fault_that_somebody_waits_behind(run):
    """From the fault if something was unanswered then, else from the first event after it; none without a fault."""
    answers = [_answer(0, 0, 101.0), _answer(1, 1, 109.0), _answer(2, 2, 130.0)]
    run.readers.append(SimpleNamespace(answers=answers))
    run.sent = [(100.5, "events", 0, 0), (100.5, "events", 0, 1), (128.0, "events", 0, 2)]
    assert run.recovered_s() is None
    run.marks = [(103.0, "killed"), (104.0, "started")]
    assert run.recovered_s() == 5.0
    run.marks.append((112.0, "killed"))  # all is answered, and until 128 nothing is sent
    assert run.recovered_s() == 5.0
    run.marks.append((129.9, "killed"))
    assert run.recovered_s() == 5.0


def test_what_a_failing_run_keeps(run, tmp_path, monkeypatch):
    """The seed, what was sent, answered and broken in the order of time, and the logs."""
    monkeypatch.setattr(history, "KEPT", tmp_path)
    log = tmp_path / "scorer-1.log"
    log.write_text("a line\n")
    history.log(log)
    run.sent = [(100.5, "events", 0, 1)]
    run.marks = [(100.7, "broker killed")]
    folder = run.keep("why")
    assert folder.parent == tmp_path
    assert "seed 7" in (folder / "failure.txt").read_text()
    assert (folder / "history.tsv").read_text() == "100.500\tsent\tevents\t0\t1\n100.700\tfault\tbroker killed\n"
    assert (folder / "scorer-1.log").read_text() == "a line\n"
