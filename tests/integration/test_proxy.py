"""The tests' network: what passes through it unharmed, and that every fault really happens."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from support.proxy import Api, Proxy, Side

from driftline.local_kafka.broker import LocalBroker


class Client:
    """Requests a broker's api versions (version 0, the simplest request), frame by frame."""

    def __init__(self, proxy: Proxy) -> None:
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    def ask(self, correlation_id: int) -> None:
        payload = struct.pack(">hhih", Api.API_VERSIONS, 0, correlation_id, -1)
        self.socket.sendall(struct.pack(">i", len(payload)) + payload)

    def answer(self, timeout_s: float = 5.0) -> int:
        """The correlation id of the next answer."""
        self.socket.settimeout(timeout_s)
        (size,) = struct.unpack(">i", self._exactly(4))
        return struct.unpack(">i", self._exactly(size)[:4])[0]

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = self.socket.recv(count - len(got))
            if not part:
                raise EOFError(f"{len(got)} of {count} bytes")
            got += part
        return got


@pytest.fixture
def proxy(broker: LocalBroker) -> Iterator[Proxy]:
    """A proxy before the broker."""
    with Proxy(broker.port) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    """A client behind the proxy."""
    client = Client(proxy)
    yield client
    client.socket.close()


def test_answers_come_in_order_and_are_counted(proxy: Proxy, client: Client) -> None:
    """Without a fault a client sees the broker; requests are counted by their api key."""
    for number in (7, 8, 9):
        client.ask(number)
    assert [client.answer() for _ in range(3)] == [7, 8, 9]
    assert proxy.requests == {Api.API_VERSIONS: 3}
    assert proxy.accepted == 1


def test_one_answer_of_many_is_held_and_delivered_late(proxy: Proxy, client: Client) -> None:
    """The second answer is stopped; what comes after it on the same connection waits behind it."""
    caught = proxy.catch(Api.API_VERSIONS, Side.ANSWER, skip=1)
    for number in (1, 2, 3):
        client.ask(number)
    assert client.answer() == 1
    caught.wait()
    with pytest.raises(TimeoutError):
        client.answer(timeout_s=0.2)
    caught.release()
    assert [client.answer(), client.answer()] == [2, 3]


def test_a_request_is_delivered_although_its_sender_has_gone(proxy: Proxy, client: Client) -> None:
    """The late packet of a closed connection reaches the broker, and the broker answers it."""
    caught = proxy.catch(Api.API_VERSIONS)
    client.ask(1)
    caught.wait()
    client.socket.close()
    answered = proxy.catch(Api.API_VERSIONS, Side.ANSWER)
    caught.release()
    answered.wait()


def test_only_the_frame_that_was_meant_is_caught(proxy: Proxy, client: Client) -> None:
    """`where` sees the request, and another connection is not held up."""
    other = Client(proxy)
    caught = proxy.catch(Api.API_VERSIONS, Side.ANSWER, where=lambda request: request[8:12] == struct.pack(">i", 5))
    client.ask(5)
    caught.wait()
    other.ask(6)
    assert other.answer() == 6
    other.socket.close()


def test_a_connection_is_reset_in_mid_answer(proxy: Proxy, client: Client) -> None:
    """Six bytes arrive, and then a reset: no orderly end."""
    caught = proxy.catch(Api.API_VERSIONS, Side.ANSWER)
    client.ask(1)
    caught.wait().reset(deliver=6)
    assert client._exactly(6)[4:] == b"\0\0"
    with pytest.raises(ConnectionResetError):
        client.answer()


def test_delay_is_added_each_way(proxy: Proxy, client: Client) -> None:
    """Three requests at once take one round trip of delays, not three."""
    proxy.slow(1.0)
    started = time.monotonic()
    for number in (1, 2, 3):
        client.ask(number)
    assert [client.answer() for _ in range(3)] == [1, 2, 3]
    assert 2.0 <= time.monotonic() - started < 5.5  # three round trips are 6 s


@pytest.mark.parametrize("side", Side)
def test_one_way_is_silent_until_it_is_healed(proxy: Proxy, client: Client, side: Side) -> None:
    """Nothing arrives, the connection stays open, and sent bytes arrive late."""
    proxy.silence(side)
    client.ask(1)
    with pytest.raises(TimeoutError):
        client.answer(timeout_s=0.3)
    assert proxy.requests == ({} if side is Side.REQUEST else {Api.API_VERSIONS: 1})
    proxy.heal()
    assert client.answer() == 1


def test_a_cut_resets_what_stands_and_refuses_what_comes(proxy: Proxy, client: Client) -> None:
    """After it has been healed, new connections work again."""
    client.ask(1)
    assert client.answer() == 1
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.answer()
    with pytest.raises(ConnectionResetError):
        _wait_in_vain(proxy)
    proxy.heal()
    again = Client(proxy)
    again.ask(2)
    assert again.answer() == 2
    again.socket.close()


def _wait_in_vain(proxy: Proxy) -> None:
    """The reset may come as early as in connect."""
    late = Client(proxy)
    try:
        late.answer()
    finally:
        late.socket.close()
