"""An HTTP server that takes alerts as an Alertmanager does, or breaks in the ways in which receivers break."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

WAIT_S = 120.0


class Receiver:
    """Keeps the posted bodies. `answers`: the response to each post in turn, a status or a name; then always 200."""

    def __init__(self, answers: Iterable[int | str] = (), port: int = 0) -> None:
        self.posts: list[tuple[str, str, list[dict]]] = []  # path, content type, alerts
        self._answers = list(answers)
        self._news = threading.Condition()
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        with self._news:
            self.posts.append((request.path, request.headers["content-type"], json.loads(body)))
            answer = self._answers.pop(0) if self._answers else 200
            self._news.notify_all()
        if isinstance(answer, int):
            request.send_response(answer)
            request.send_header("content-length", "7")
            request.end_headers()
            request.wfile.write(b"because")
        elif answer == "garbage":
            request.wfile.write(b"\x00\xffno HTTP\r\n\r\n")
        elif answer == "endless":
            request.wfile.write(b"HTTP/1.1 500 x\r\ncontent-length: 100000\r\n")
            while not self._ended.wait(0.02):
                request.wfile.write(b"x: y\r\n")
        # "nothing": the connection is closed without an answer

    def wait(self, enough: Callable[[list[list[dict]]], bool]) -> None:
        """Until what was posted so far is enough."""
        deadline = time.monotonic() + WAIT_S
        with self._news:
            while not enough([alerts for _, _, alerts in self.posts]):
                assert self._news.wait(max(0.0, deadline - time.monotonic())), f"not within {WAIT_S} s: {self.posts}"

    def wait_for(self, count: int) -> None:
        """Wait until this number of posts has arrived."""
        self.wait(lambda posts: len(posts) >= count)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
