"""What fault tests share: a broker with two ways to it through proxies, beside its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network import Network
from support.network import network as started_network
from support.stage import Stage


@pytest.fixture(scope="session")
def network_of_the_run() -> Iterator[Network]:
    """One for all fault tests of the run."""
    with started_network(proxies=2) as network:
        yield network


@pytest.fixture
def network(network_of_the_run: Network) -> Iterator[Network]:
    """The broker and its proxies, with nothing broken yet."""
    yield network_of_the_run
    network_of_the_run.heal()


@pytest.fixture
def far(network: Network, topic_prefix: str, telco_bundle: Path, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose reader and upstream are beside the broker; scorers may connect through `network.proxies`."""
    stage = Stage(network.broker, topic_prefix, telco_bundle, tmp_path)
    yield stage
    stage.reader.close()
