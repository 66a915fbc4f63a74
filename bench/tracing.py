"""The cost of traces: the scorer's CPU per event on a backlog, with traces off and on (`python -m bench.tracing`).

Every event carries a trace context, and one in a hundred is sampled. The spans go to a receiver in this process, whose
CPU is not counted. Rounds alternate; the table has the median, the least and the most of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.contestants import Contestant
from bench.measure import Trial, backlog
from bench.run import machine
from bench.stage import Stage

PLAIN, TRACED = "events-plain", "events-traced"
SAMPLED = 0.01
LIMIT_S = 120.0


class _Receiver(BaseHTTPRequestHandler):
    """Takes what it is sent, as a collector that is never busy."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def main() -> int:
    """Print a row for each way to run the scorer."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracing", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="of each backlog")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder,
        _collector() as url,
        Stage(Path(folder)) as s,
    ):
        on = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ways: tuple[tuple[str, str, dict[str, str]], ...] = (
            ("no trace context, traces off", PLAIN, {}),
            ("a trace context on each event, traces off", TRACED, {}),
            ("the same, 1 % of them sampled, traces on", TRACED, on),
        )
        s.create([PLAIN, TRACED])
        s.feeder.send(PLAIN, 0, arguments.events)
        s.feeder.send(TRACED, 0, arguments.events, SAMPLED)
        cpu_us: dict[str, list[float]] = {title: [] for title, _, _ in ways}
        for number in range(arguments.rounds):
            for title, topic, environment in ways if number % 2 else ways[::-1]:
                contestant = Contestant("traces", title, "exactly-once", None, "ours", environment=environment)
                with Trial(s, contestant, Path(sys.executable), topic) as trial:
                    cpu_us[title].append(backlog(trial, arguments.events, LIMIT_S).cpu_us or float("nan"))
    sys.stdout.write(f"{machine()}\n\n| CPU per event | median | rounds |\n| --- | ---: | ---: |\n")
    for title, found in cpu_us.items():
        spread = f"{min(found):.2f} to {max(found):.2f}"
        sys.stdout.write(f"| {title} | {statistics.median(found):.2f} µs | {spread} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
