"""`python -m scorer.offline`: one bundle, loaded as the service loads it, used once and without Kafka.

It is a separate process, so that what loads here also loads in a scorer. `driftline bundle` tries a new bundle with it,
and `driftline predict` makes its predictions with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import orjson

from kafka_runtime.service.printable import clean
from kafka_runtime.service.settings import EventSettings, SettingsError
from schemas.bundle.manifest import BundleError
from schemas.features import Layout
from schemas.setting_names import KNOWN
from schemas.validation import Rules
from scorer.http import MAX_BODY_BYTES
from scorer.model import load
from scorer.predict import NotAnsweredError, Predictor

DONE, NOT_ANSWERED, WRONG_USE = 0, 1, 2


def main() -> int:
    """Return 0 with the answer on standard output, 1 with the problems of an event there, 2 with a line of error."""
    parser = argparse.ArgumentParser(
        prog="python -m scorer.offline",
        description="Reads an event, an object of features or a list from standard input and answers it as POST "
        "/predict does.",
        epilog="example: python -m scorer.offline artifacts/model < event.json",
    )
    parser.add_argument("model", type=Path, help="folder of the bundle")
    parser.add_argument("--public-key", type=Path, help="PEM file: only a signed bundle is loaded")
    parser.add_argument(
        "--check",
        action="store_true",
        help="load and verify the bundle, and print its form; then the scores for each line of standard input: "
        "an object with a list of values for every feature",
    )
    arguments = parser.parse_args()
    try:
        model = load(arguments.model, arguments.public_key)
    except BundleError as error:
        sys.stderr.write(f"model refused: {clean(error)}\n")
        return WRONG_USE
    if arguments.check:
        _write({"form": model.form, "why_not_direct": model.why_not_direct or None}, DONE)
        layout = Layout(model.manifest.features)
        for line in sys.stdin.buffer:
            values = orjson.loads(line)
            scores, _ = model.score_each(layout.columns([values[name] for name in layout.names]))
            _write(scores.tolist(), DONE)
        return DONE
    body = sys.stdin.buffer.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        sys.stderr.write(f"more than {MAX_BODY_BYTES} bytes\n")
        return WRONG_USE
    try:
        rules = Rules.of(EventSettings.read(os.environ, KNOWN))
    except SettingsError as error:
        sys.stderr.write(f"{clean('; '.join(str(error).splitlines()))}\n")
        return WRONG_USE
    try:
        return _write(Predictor(model, rules).answer(body, time.time_ns() // 1_000_000), DONE)
    except NotAnsweredError as error:
        return _write({"detail": error.detail}, NOT_ANSWERED)


def _write(answer: object, code: int) -> int:
    sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
    return code


if __name__ == "__main__":
    sys.exit(main())
