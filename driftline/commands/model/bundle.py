"""`driftline bundle` and `driftline spec infer`: for a fitted model, or for data without a spec."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from driftline import terminal
from driftline.errors import CommandError

spec = typer.Typer(help="Specs: what the customers look like, as TOML.", no_args_is_help=True)


def command(
    spec: Annotated[Path, typer.Option(help="TOML spec; [data] and [estimator] may be absent.", show_default=False)],
    model: Annotated[
        Path,
        typer.Option(
            help="The fitted estimator: a file of joblib, pickle or skops, or an MLflow model: its folder, "
            "mlflow:models:/NAME@ALIAS, models:/m-ID or runs:/RUN/PATH.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="Customers as the drift reference: CSV or JSON Lines.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")] = Path("artifacts/model"),
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME…",
            help="Features in the order of the array that the estimator was fitted on, if it recorded no names; "
            "instead of [model] columns.",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The estimator was not fitted on these customers: measure it on them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Make a bundle around a fitted estimator. The estimator is loaded here, so its source must be trusted.

    The result is loaded in a fresh process, as a scorer would load it, before it is put into --out. For every customer
    in --data it must give the estimator's own result.

    Example: driftline bundle --spec examples/telco.toml --model artifacts/model/model.joblib
    --data examples/telco_churn.csv --out artifacts/bundled
    """
    from driftline.mlflow_tracking import model_at
    from driftline.model_life.data_checks import bundle_remarks
    from driftline.training.dataset import DatasetError
    from driftline.training.estimator_file import ExistingError
    from driftline.training.fitted_estimator import bundle_existing
    from driftline.training.loaded_bundle import task_of, task_sentence
    from driftline.training.spec import SpecError, read_feature_spec, with_columns

    now = datetime.now(UTC).replace(microsecond=0)
    try:
        wanted = read_feature_spec(spec)
        if columns is not None:
            wanted = with_columns(wanted, columns.split(","))
        with terminal.status("trying the estimator …"), model_at(model) as place:
            made = bundle_existing(wanted, place, data, out, now, held_out=held_out)
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
        **task_of(manifest),
        "reference_rows": made.reference_rows,
        "form": made.form,
        "why_not_direct": made.why_not_direct,
        "metrics": manifest.metrics,
        "unused_columns": list(made.unused),
        "unwatched_features": made.unwatched,
        "notes": manifest.notes or (),
    }
    if as_json:
        terminal.show_json(summary, indent=True)
        return
    terminal.show(
        f"{out}: {manifest.name} {manifest.version}, {len(manifest.features)} features, tried in a fresh process"
    )
    terminal.show(task_sentence(manifest))
    terminal.show(f"scored in {made.form} form" + (f": {made.why_not_direct}" if made.why_not_direct else ""))
    for name, value in manifest.metrics.items():
        terminal.show(f"{name} {value:.4f}")
    terminal.show(manifest.self_check.sentence())
    for line in bundle_remarks(made.unused, made.unwatched, len(manifest.features), made.reference_rows):
        terminal.show(line)
    for note in manifest.notes or ():
        terminal.show(f"note: {note}")


@spec.callback()
def _spec() -> None:
    """Keep `infer` as a subcommand: a group with one command would drop its name."""


@spec.command()
def infer(
    data: Annotated[
        Path | None, typer.Option(help="Customers: CSV with a header, or JSON Lines.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of the label in --data.", show_default=False)] = None,
    event: Annotated[
        Path | None,
        typer.Option(help="Events, or records as for validate, one a line: propose [event].", show_default=False),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="A subject of the schema registry: propose [event].", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> None:
    """Write a first spec for a file of customers, to be edited: kinds, missing values, ids, columns that are left out.

    With --event, write the mapping and the features of real records instead; with --subject, those of a schema. It
    never overwrites a file.

    Example: driftline spec infer --data examples/telco_churn.csv --target churn --out spec.toml
    """
    from driftline.training.dataset import DatasetError
    from driftline.training.infer_event import infer_event, infer_subject
    from driftline.training.infer_spec import infer_spec

    if sum(source is not None for source in (event, data, subject)) != 1 or (target is None) != (data is None):
        raise CommandError("expected --data with --target, or --event, or --subject")
    try:
        if event is not None:
            text = infer_event(event)
        elif subject is not None:
            from driftline.schema_registry import schema_sample
            from driftline.schema_registry.newest_schema import newest
            from driftline.settings import read_schemas

            version = newest(subject, "json-schema")
            if version is None:
                raise CommandError(f"{subject}: the registry has no schema of this subject", 1)
            read_schemas(schema_sample.FORMATS.get(version.schema.kind, "json-schema"))  # is its extra there?
            events = schema_sample.sample(version.schema)
            text = infer_subject(subject, version.version, schema_sample.FORMATS[version.schema.kind], events)
        else:
            assert data is not None and target is not None, "checked above"  # noqa: S101, PT018
            text = infer_spec(data, target)
        if out is None:
            terminal.show_text(text)
            return
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except DatasetError as error:
        raise CommandError(str(error)) from error
    except FileExistsError:
        raise CommandError(f"{out} exists; name another file with --out") from None
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from error
    lines = text.splitlines()
    for line in lines:
        if " is left out: " in line and line.startswith("#"):
            terminal.note(line.lstrip("#? "))
    questions = sum("#?" in line for line in lines) - 1  # the first lines explain the mark
    after = f"train --spec {out} --data {data}"
    if data is None:
        after = f"validate --spec {out} " + ("--topic TOPIC" if event is None else f"--{_kind_of(event)} {event}")
    terminal.note(f"{out}: {questions} questions (#?) to answer, then driftline {after}")


def _kind_of(sample: Path) -> str:
    """Return the option of `driftline validate` that reads a sample."""
    from driftline.training.infer_event import is_whole

    return "records" if is_whole(sample) else "events"
