"""`driftline predict`: the scorer's answer without Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from driftline import terminal
from driftline.errors import CommandError


def command(
    event: Annotated[Path, typer.Argument(help="JSON file; - is standard input.")] = Path("-"),
    model: Annotated[Path, typer.Option(envvar="SCORER_MODEL", help="Folder of the bundle.")] = Path("artifacts/model"),
    public_key: Annotated[
        Path | None, typer.Option(envvar="MODEL_PUBLIC_KEY", help="PEM file: load a signed bundle only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as POST /predict gives it.")] = False,
) -> None:
    """Score one event, one bare object of features, or a list of them, as `POST /predict` does, offline.

    Exit code 1 if an event is rejected: its line then names the field and the reason.

    Example: echo '{"anciennete_mois": 6, "montant_mensuel": 85.0, "nb_reclamations": 4, "nb_produits": 1}' |
    driftline predict --model artifacts/churn5
    """
    try:
        body = sys.stdin.buffer.read() if event == Path("-") else event.read_bytes()
    except OSError as error:
        raise CommandError(f"{event}: {error.strerror or error}") from None
    # the scorer's loader, in a separate process: the answer here equals the service's
    process = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "scorer.offline",
            str(model),
            *(["--public-key", str(public_key)] if public_key else []),
        ],
        input=body,
        capture_output=True,
        check=False,
        env=os.environ,
    )
    if process.returncode not in {0, 1} or not process.stdout:
        raise CommandError(process.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "the scorer failed")
    answer = json.loads(process.stdout)
    if as_json:
        terminal.show_json(answer, indent=True)
    elif process.returncode == 0:
        for one in answer if isinstance(answer, list) else [answer]:
            terminal.show(_line(one))
    if process.returncode == 1:
        if not as_json:
            for problem in answer["detail"]:
                place = ".".join(map(str, problem["loc"]))
                terminal.note(f"{place}: {problem['type']}: {problem['msg']}")
        raise CommandError("", exit_code=1)


def _line(answer: dict[str, Any]) -> str:
    who = answer.get("customer_id") or answer.get("event_id")
    model = answer["model"]
    if "value" in answer:
        text, around = f"{answer['value']:.6g}", answer.get("interval")
        if around is not None:
            text += f"  ({around['level']:.0%}: {around['low']:.6g} to {around['high']:.6g})"
    elif "probabilities" in answer:
        text = f"{answer['label']}  {answer['probability']:.4f}"
    else:
        verdict = "positive" if answer["label"] else "negative"
        text = f"{answer['probability']:.4f}  {verdict} (threshold {answer['threshold']:.4g})"
    return f"{who + ': ' if who else ''}{text}  {model['name']} {model['version']}"
