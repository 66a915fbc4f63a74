"""A network that fails on demand: a TCP proxy between Kafka clients and a broker, on 127.0.0.1 only.

It parses Kafka's framing, so it can stop one request or one answer of many: the answer to an EndTxn, for instance. The
frames behind a stopped frame on its connection wait, too, as on any network. Bytes are late or lost with their
connection, never missing in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from enum import IntEnum, StrEnum
from types import TracebackType
from typing import Any, Self

from support import history

HOST = "127.0.0.1"
WAIT_S = 120.0
# Frames in flight per direction; behind a delay or a silence the sender then meets a full buffer, as on a real network.
MAX_IN_FLIGHT = 1000


class Api(IntEnum):
    """Kafka's api keys, as far as tests name them."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_COMMIT = 8
    HEARTBEAT = 12
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Side(StrEnum):
    """Which way a frame travels."""

    REQUEST = "request"
    ANSWER = "answer"


class Caught:
    """One frame that is stopped on its way, from `wait` on until `release` or `reset`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._arrived = threading.Event()
        self._decided = asyncio.Event()
        self.deliver: int | None = None  # how many bytes of the frame go on before the connection is reset; None: all

    async def stop(self) -> None:
        """On the proxy's thread: the frame is here, and stays until something is decided."""
        self._arrived.set()
        await self._decided.wait()

    def decide(self, deliver: int | None = None) -> None:
        """Decide on the proxy's thread: forward this number of bytes, or all."""
        self.deliver = deliver
        self._decided.set()

    def wait(self, timeout_s: float = WAIT_S) -> Self:
        """Until the frame has come to the proxy."""
        assert self._arrived.wait(timeout_s), f"no such frame within {timeout_s} s"
        return self

    def release(self) -> None:
        """Forward the frame and those behind it, even if its sender has left."""
        history.mark("a frame goes on")
        self._proxy.call(self.decide)

    def reset(self, deliver: int = 0) -> None:
        """Forward this number of bytes of the frame; then reset both ends of its connection."""
        history.mark("a connection is reset")
        self._proxy.call(lambda: self.decide(deliver))


class _Trap:
    """What to catch: the frame number `skip` + 1 of this kind."""

    def __init__(self, api: Api, side: Side, skip: int, where: Callable[[bytes], bool], caught: Caught) -> None:
        self.api, self.side, self.skip, self.where, self.caught = api, side, skip, where, caught


class Proxy:
    """Forwards `address` to a port of this machine; a context manager with a separate thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: set[_Connection] = set()
        self._traps: list[_Trap] = []
        self._caught: list[Caught] = []
        self._delay_s = 0.0
        self._cut = False
        self._flowing = {side: asyncio.Event() for side in Side}
        for flowing in self._flowing.values():
            flowing.set()
        self.accepted = 0  # connections so far
        self.requests: Counter[int] = Counter()  # by api key
        self._thread.start()
        self._server = self.run(asyncio.start_server(self._accept, HOST, 0))
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        """Return the address for clients, 127.0.0.1:port."""
        return f"{HOST}:{self.port}"

    # -- what tests ask for ---------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, and every new one at once, until `heal`."""
        history.mark("the network is cut")

        def now() -> None:
            self._cut = True
            for connection in list(self._connections):
                connection.abort()

        self.call(now)

    def silence(self, *sides: Side) -> None:
        """Hold everything in these directions until `heal`; the connections stay open."""
        history.mark(f"the network is silent: {', '.join(sides)}")
        self.call(lambda: [self._flowing[side].clear() for side in sides])

    def slow(self, seconds: float) -> None:
        """Delay every frame by this time, in each direction."""
        self.call(lambda: setattr(self, "_delay_s", seconds))

    def heal(self) -> None:
        """Forward everything again; held frames arrive late, and caught ones are released."""
        history.mark("the network is whole")

        def now() -> None:
            self._cut, self._delay_s = False, 0.0
            for flowing in self._flowing.values():
                flowing.set()
            for caught in self._caught:
                caught.decide()
            self._traps.clear()
            self._caught.clear()

        self.call(now)

    def catch(
        self, api: Api, side: Side = Side.REQUEST, skip: int = 0, where: Callable[[bytes], bool] = lambda _request: True
    ) -> Caught:
        """Stop one frame of this kind, after `skip` that pass. `where` looks at the request, for answers as well."""
        caught = Caught(self)

        def now() -> None:
            self._caught.append(caught)
            self._traps.append(_Trap(api, side, skip, where, caught))

        self.call(now)
        return caught

    # -- the loop's thread ----------------------------------------------------------------------------------------

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on the proxy's thread, and return when it has been called."""

        async def there() -> None:
            function()

        self.run(there())

    def run(self, work: Coroutine[object, object, Any]) -> Any:
        """Run `work` on the proxy's thread; its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._cut:
            _reset(writer)
            return
        try:
            target = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(self, (reader, writer), target)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def stop_if_caught(self, api: int, side: Side, request: bytes) -> Caught | None:
        """Return the trap that this frame runs into, once the test has decided about the frame; None without one."""
        for trap in self._traps:
            if trap.side is side and trap.api == api and trap.where(request):
                trap.skip -= 1
                if trap.skip < 0:
                    self._traps.remove(trap)
                    await trap.caught.stop()
                    return trap.caught
        return None

    async def flows(self, side: Side) -> None:
        await self._flowing[side].wait()

    @property
    def delay_s(self) -> float:
        return self._delay_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()

        async def close() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One client's connection and the one to the broker that belongs to it."""

    def __init__(self, proxy: Proxy, client: _Streams, broker: _Streams) -> None:
        self._proxy = proxy
        self._client, self._broker = client, broker
        self._asked: dict[int, bytes] = {}  # correlation id → request, until it is answered
        self._all_answered = asyncio.Event()

    async def serve(self) -> None:
        """Until both directions have ended."""
        ways = (
            self._forward(Side.REQUEST, self._client[0], self._broker[1]),
            self._forward(Side.ANSWER, self._broker[0], self._client[1]),
        )
        await asyncio.gather(*ways)

    def abort(self) -> None:
        """Reset both ends."""
        self._all_answered.set()
        for _, writer in (self._client, self._broker):
            _reset(writer)

    async def _forward(self, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_IN_FLIGHT)
        sending = asyncio.create_task(self._send(side, frames, writer))
        loop = asyncio.get_running_loop()
        frame = b""
        try:
            while True:
                header = await reader.readexactly(4)
                frame = header + await reader.readexactly(struct.unpack(">i", header)[0])
                await frames.put((loop.time() + self._proxy.delay_s, frame))
        except (asyncio.IncompleteReadError, OSError):
            if side is Side.ANSWER:
                self._all_answered.set()
            await frames.put((loop.time(), b""))  # the end comes after what was sent before it
        await sending

    async def _send(self, side: Side, frames: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                due, frame = await frames.get()
                await asyncio.sleep(due - loop.time())
                await self._proxy.flows(side)
                if not frame:
                    break
                caught = await self._proxy.stop_if_caught(*self._named(side, frame))
                if caught is not None and caught.deliver is not None:
                    writer.write(frame[: caught.deliver])
                    with contextlib.suppress(OSError):
                        await writer.drain()
                    self.abort()
                    return
                writer.write(frame)
                await writer.drain()
            if side is Side.REQUEST and self._asked:
                # the client has left; its last request is still answered, so that a test can see that it was
                await self._all_answered.wait()
            writer.close()
        except OSError:  # the receiver has gone, and with it the connection
            self.abort()

    def _named(self, side: Side, frame: bytes) -> tuple[int, Side, bytes]:
        """Return (api key, side, request) of a frame; a request is kept for its answer."""
        if side is Side.REQUEST:
            api, _version, correlation_id = struct.unpack(">hhi", frame[4:12])
            self._proxy.requests[api] += 1
            self._asked[correlation_id] = frame
            self._all_answered.clear()
            return api, side, frame
        request = self._asked.pop(struct.unpack(">i", frame[4:8])[0])
        if not self._asked:
            self._all_answered.set()
        return struct.unpack(">h", request[4:6])[0], side, request


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crashed machine or a firewall does (RST), not in order (FIN)."""
    with contextlib.suppress(OSError):  # it may be closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
