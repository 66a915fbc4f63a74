"""`driftline bundle` and `driftline spec infer`: for those who have a fitted model, or data and no spec yet."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftline.errors import CommandError

spec = typer.Typer(help="Specs: what the customers look like, as TOML.", no_args_is_help=True)


def command(
    spec: Annotated[Path, typer.Option(help="TOML spec; [data] and [estimator] may be absent.", show_default=False)],
    model: Annotated[Path, typer.Option(help="The fitted estimator, by joblib or pickle.", show_default=False)],
    data: Annotated[
        Path, typer.Option(help="Customers as the drift reference: CSV or JSON Lines.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("artifacts/model"),
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The estimator was not fitted on these customers: measure it on them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Make a bundle around an estimator that is fitted already. It is loaded here, so trust where it comes from.

    What is written is tried in a fresh process, as a scorer would load it, before it is put into --out.

    Example: driftline bundle --spec spec.toml --model fitted.joblib --data reference.csv --out artifacts/model
    """
    from training.dataset import DatasetError
    from training.existing import ExistingError, bundle_existing
    from training.spec import SpecError, read_feature_spec

    now = datetime.now(UTC).replace(microsecond=0)
    try:
        with Console(stderr=True).status("trying the estimator …"):
            made = bundle_existing(read_feature_spec(spec), model, data, out, now, held_out=held_out)
    except (SpecError, DatasetError, ExistingError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    manifest = made.manifest
    summary = {
        "bundle": str(out),
        "name": manifest.name,
        "version": manifest.version,
        "features": len(manifest.features),
        "positive_class": manifest.positive_class,
        "threshold": manifest.threshold,
        "reference_rows": made.reference_rows,
        "form": made.form,
        "why_not_direct": made.why_not_direct,
        "metrics": manifest.metrics,
        "notes": manifest.notes or (),
    }
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    print(f"{out}: {manifest.name} {manifest.version}, {len(manifest.features)} features, tried in a fresh process")
    print(f"positive class {manifest.positive_class!r}, threshold {manifest.threshold:.4g}")
    print(f"scored in {made.form} form" + (f": {made.why_not_direct}" if made.why_not_direct else ""))
    for name, value in manifest.metrics.items():
        print(f"{name} {value:.4f}")
    print(manifest.self_check.sentence())
    for note in manifest.notes or ():
        print(f"note: {note}")


@spec.callback()
def _spec() -> None:
    """Make `infer` a command of its own: a group with one command would take its name away."""


@spec.command()
def infer(
    data: Annotated[Path, typer.Option(help="Customers: CSV with a header, or JSON Lines.", show_default=False)],
    target: Annotated[str, typer.Option(help="Column of the label.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> None:
    """Write a first spec for a file of customers, to be edited: kinds, what may be missing, ids, what was left out.

    It never overwrites a file.

    Example: driftline spec infer --data training/data/telco_churn.csv --target churn --out spec.toml
    """
    from training.dataset import DatasetError
    from training.infer import infer_spec

    try:
        text = infer_spec(data, target)
        if out is None:
            print(text, end="")
            return
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except DatasetError as error:
        raise CommandError(str(error)) from error
    except FileExistsError:
        raise CommandError(f"{out} exists; name another file with --out") from None
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    print(f"{out}: read its comments, then driftline train --spec {out} --data {data}", file=sys.stderr)
