"""A webhook for Alertmanager that prints one line per alert, to show an arriving page. For demonstrations.

It replaces a real paging service, so it stores no alert and answers 200 at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# A group of hundreds of alerts is far below this; a larger body is not from an Alertmanager.
MAX_BODY_BYTES = 1_000_000
IDLE_S = 10.0


def lines(posted: Any) -> list[str]:
    """Return a line per alert of a webhook's body. KeyError, TypeError or AttributeError if it has another shape."""
    return [_line(alert) for alert in posted["alerts"]]


def _line(alert: dict[str, Any]) -> str:
    """Return `2026-11-26T05:00:00Z firing critical FeatureDrift feature=tenure model=churn-telco: tenure moved`."""
    labels = dict(alert["labels"])
    firing = alert["status"] == "firing"
    head = (
        alert["startsAt" if firing else "endsAt"],
        alert["status"],
        labels.pop("severity", "none"),
        labels.pop("alertname"),
    )
    words = [*head, *(f"{name}={value}" for name, value in sorted(labels.items()))]
    text = f"{' '.join(words)}: {alert['annotations'].get('summary', '')}"
    # the output stays one line for any content of a label
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class Handler(BaseHTTPRequestHandler):
    """POST an Alertmanager's body to any path; GET is the health check."""

    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer the health check."""
        self._answer(200)

    def do_POST(self) -> None:
        """Print the alerts of a body, or reject it."""
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or len(size) > len(str(MAX_BODY_BYTES)) or int(size) > MAX_BODY_BYTES:
            self._answer(413)
            return
        try:
            news = lines(json.loads(self.rfile.read(int(size))))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            print(f"not an alert: {error!r}", file=sys.stderr, flush=True)
            self._answer(400)
            return
        if news:
            print("\n".join(news), flush=True)
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no line per request: the alerts are the log."""


def main() -> None:
    """Listen until the process ends."""
    arguments = argparse.ArgumentParser(description="Print a line for every alert that an Alertmanager posts.")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=9099)
    given = arguments.parse_args()
    server = ThreadingHTTPServer((given.host, given.port), Handler)
    print(f"waiting for alerts on {given.host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
