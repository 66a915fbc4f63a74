"""A broker with several ways to it: its own, and one through each of some proxies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from support.brokers import Broker
from support.proxy import HOST, Proxy

from driftline.local_kafka.broker import SETTINGS, _free_port


@dataclass(frozen=True)
class Network:
    """A broker with proxies before it; a client of a proxy receives the proxy's address as the broker's."""

    broker: Broker
    proxies: tuple[Proxy, ...]

    def heal(self) -> None:
        """End all faults."""
        for proxy in self.proxies:
            proxy.heal()


@contextmanager
def network(proxies: int) -> Iterator[Network]:
    """Open a broker behind this number of proxies for the block."""
    with ExitStack() as stack:
        port, controller = _free_port(), _free_port()
        ways = {f"WAY{i}": _free_port() for i in range(proxies)}
        running = {name: stack.enter_context(Proxy(target)) for name, target in ways.items()}
        protocols = SETTINGS["listener.security.protocol.map"]
        listeners = [f"PLAINTEXT://{HOST}:{port}", *(f"{name}://{HOST}:{target}" for name, target in ways.items())]
        advertised = [listeners[0], *(f"{name}://{proxy.address}" for name, proxy in running.items())]
        settings = {
            "listeners": ",".join([*listeners, f"CONTROLLER://{HOST}:{controller}"]),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join([str(protocols), *(f"{name}:PLAINTEXT" for name in ways)]),
            "controller.quorum.voters": f"1@{HOST}:{controller}",
        }
        yield Network(stack.enter_context(Broker(port=port, settings=settings)), tuple(running.values()))
