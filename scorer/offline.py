"""`python -m scorer.offline`: one bundle, loaded as the service loads it, asked once and without Kafka.

A process of its own, so that what loads here loads in a scorer: `driftline bundle` uses it to try what it wrote, and
`driftline predict` to answer.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import orjson

from schemas.bundle import BundleError
from schemas.verdict import Rules
from scorer.http import MAX_BODY_BYTES
from scorer.model import load
from scorer.predict import NotAnsweredError, Predictor

DONE, NOT_ANSWERED, WRONG_USE = 0, 1, 2


def main() -> int:
    """0: the answer on standard output; 1: there, what is wrong with an event; 2: one line on why nothing was asked."""
    parser = argparse.ArgumentParser(
        prog="python -m scorer.offline",
        description="Reads an event, an object of features or a list from standard input and answers it as POST "
        "/predict does.",
        epilog="example: python -m scorer.offline artifacts/model < event.json",
    )
    parser.add_argument("model", type=Path, help="folder of the bundle")
    parser.add_argument("--public-key", type=Path, help="PEM file: only a signed bundle is loaded")
    parser.add_argument("--check", action="store_true", help="load and verify the bundle, and say which form it takes")
    arguments = parser.parse_args()
    try:
        model = load(arguments.model, arguments.public_key)
    except BundleError as error:
        sys.stderr.write(f"model refused: {error}\n")
        return WRONG_USE
    if arguments.check:
        return _write({"form": model.form, "why_not_direct": model.why_not_direct or None}, DONE)
    body = sys.stdin.buffer.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        sys.stderr.write(f"more than {MAX_BODY_BYTES} bytes\n")
        return WRONG_USE
    try:
        return _write(Predictor(model, Rules()).answer(body, time.time_ns() // 1_000_000), DONE)
    except NotAnsweredError as error:
        return _write({"detail": error.detail}, NOT_ANSWERED)


def _write(answer: object, code: int) -> int:
    sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
    return code


if __name__ == "__main__":
    sys.exit(main())
