"""What every test can ask for: a real broker, shared by the whole run, and names that no other test uses."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import preloaded, short_check
from support.brokers import Broker
from support.stage import Stage

from driftline.local_kafka import broker as local_broker

pytest_plugins = ["support.matrix"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Suites that have a short form for every run and a long one for `make chaos`, `make soak` and their like."""
    parser.addoption("--long", action="store_true", help="run the long forms")
    parser.addoption("--minutes", type=float, default=0, help="how long the soak lasts; 0: its short form")


def pytest_configure() -> None:
    """Processes that share a run (pytest -n) share no port: a broker that is restarted needs its own again."""
    short_check.install()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        local_broker._FREE_PORTS = local_broker._FREE_PORTS[number::count]


# Folders whose tests take a minute each. At the end of a run one of them would be all that is left, on one core.
SLOW = {"soak", "packaging", "observability"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow folders; apart from that the order stays as it was drawn."""
    items.sort(key=lambda item: SLOW.isdisjoint(item.path.parts))


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Return whether the long form is selected."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    """How long the soak is to last; 0 for its short form."""
    return float(request.config.getoption("--minutes"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One Apache Kafka for the whole run; a test that stops, kills or freezes a broker starts a separate one."""
    with Broker() as running:
        yield running


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and transactional ids that belongs to this test alone."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def telco_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Telco model, trained once for the whole run from the real customers."""
    from driftline.training.spec import read_spec
    from driftline.training.train import train_bundle

    directory = tmp_path_factory.mktemp("telco") / "model"
    spec, data = read_spec(Path("examples/telco.toml")), Path("examples/telco_churn.csv")
    train_bundle(spec, data, directory, datetime(2026, 1, 1, tzinfo=UTC))
    return directory


@pytest.fixture(autouse=True, scope="session")
def checked_by_preloaded_processes() -> Iterator[None]:
    """Bundles are tried in processes that have the libraries; tests/packaging tries them in new interpreters."""
    from driftline.training import fitted_estimator

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fitted_estimator,
            "run_python",
            lambda arguments, folder, given: preloaded.run_bytes(arguments, os.environ, given=given, folder=folder),
        )
        yield


@pytest.fixture
def stage(broker: Broker, topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[Stage]:
    """Topics of this test's own, and a reader that watches them from before the first record."""
    stage = Stage(broker, topic_prefix, telco_bundle, tmp_path)
    yield stage
    stage.reader.close()
