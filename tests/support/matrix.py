"""The fault matrix for pytest: `row(n)` on a test, `--row N`, `--seed`, `--record FILE`; a failing run is kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from support import history


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make chaos`."""
    parser.addoption(
        "--row", type=int, action="append", help="only this row of the fault matrix (more than once: these)"
    )
    parser.addoption("--seed", type=int, help="seed of what fault tests leave to chance; without it each draws its own")
    parser.addoption("--record", type=Path, help="append one JSON line for each run of a row to this file")
    parser.addoption("--until", type=float, help="begin no test after this time (seconds since the epoch)")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "row(n, ...): rows of the fault matrix in docs/delivery.md of a test; none: only its history is kept",
    )
    config.addinivalue_line("markers", "long_only: takes a minute, and so it runs with --long alone")


def rows(item: pytest.Item) -> tuple[int, ...]:
    """Return the rows that a test covers."""
    return tuple(row for mark in item.iter_markers("row") for row in mark.args)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests that cover --row; without --long some are left out."""
    wanted = config.getoption("--row")
    if wanted:
        others = [item for item in items if not set(rows(item)) & set(wanted)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if set(rows(item)) & set(wanted)]
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long_only"):
                item.add_marker(pytest.mark.skip(reason="takes a minute: make chaos"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin a run."""
    until = item.config.getoption("--until")
    if until is not None and time.time() > until:
        pytest.skip("the time is over")
    seed = item.config.getoption("--seed")
    if item.get_closest_marker("row"):
        seed = secrets.randbelow(1 << 32) if seed is None else seed
        history.current = history.Run(rows(item), item.nodeid, seed, bool(item.config.getoption("--long")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End a run: count it, and keep it if it failed."""
    report = yield
    run = history.current
    if run is not None and (call.when == "call" or report.failed):
        if report.failed:
            report.sections.append(("what was seen", f"seed {run.seed}, kept in {run.keep(report.longreprtext)}"))
        record = item.config.getoption("--record")
        if record is not None:
            record.parent.mkdir(parents=True, exist_ok=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(run.record(report.outcome))
    if report.failed or call.when == "teardown":
        history.current = None
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this run; a failure names it."""
    assert history.current is not None, f"{request.node.nodeid} has no mark row"
    return history.current.seed
