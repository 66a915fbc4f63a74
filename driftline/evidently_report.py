"""`driftline report --evidently`: that library's report on a file of customers, against the reference of a bundle.

Evidently is no dependency of Driftline: whoever wants its report installs it with the extra `evidently`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.errors import CommandError

if TYPE_CHECKING:
    import pandas as pd

    from schemas.bundle import Manifest
    from schemas.reference import Reference

# Members of a prediction: a file of customers that has such a column is compared with the reference's scores, too.
PROBABILITY, LABEL = "probability", "label"
INSTALL = "--evidently needs the Evidently library: pip install 'driftline[evidently]'"


def write_report(current: Path, model: Path, out: Path) -> str:
    """Write the report; a line on what was compared. CommandError without the library, or if a file is not right."""
    if importlib.util.find_spec("evidently") is None:
        raise CommandError(INSTALL)
    reference, now = frames(current, model)
    kinds = {name: now[name].dtype.kind for name in now.columns}
    numeric = [name for name, kind in kinds.items() if kind == "f"]
    categorical = [name for name, kind in kinds.items() if kind != "f"]
    _run(reference, now, numeric, categorical, out)
    scores = [name for name in (PROBABILITY, LABEL) if name in now.columns]
    besides = f" and {', '.join(scores)}" if scores else ""
    features = len(now.columns) - len(scores)
    return f"{out}: {len(now):,} customers against {len(reference):,} of the reference, {features} features{besides}"


def frames(current: Path, model: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reference's rows and the file's, with the same columns: the features, and what the file has of a prediction.

    Numbers are float64, all else is text; missing is NaN.
    """
    import pandas as pd

    from schemas.bundle import REFERENCE, BundleError, read_bundle
    from schemas.reference import Reference
    from training.dataset import DatasetError, column_names, parse_boolean, parse_number, read_features, read_table

    try:
        # nothing of it is unpickled
        bundle = read_bundle(model)
        manifest = bundle.manifest
        reference = _reference_frame(manifest, Reference.from_bytes(bundle.files[REFERENCE]))
        values = read_features(current, manifest.features)
        now = pd.DataFrame(
            {f.name: _column(column, f.kind) for f, column in zip(manifest.features, values, strict=True)}
        )
        scores = [
            name for name in (PROBABILITY, LABEL) if name in column_names(current) and name not in reference.columns
        ]
        parsers = {PROBABILITY: (parse_number, "numeric"), LABEL: (parse_boolean, "boolean")}
        table = read_table(current, scores) if scores else None
    except (BundleError, DatasetError) as error:
        raise CommandError(str(error)) from None
    except ValueError as error:
        raise CommandError(f"{model / REFERENCE}: {error}") from None
    score = Reference.from_bytes(bundle.files[REFERENCE]).score
    for name in scores:
        assert table is not None, "read if there are scores"  # noqa: S101
        parse, kind = parsers[name]
        found = table.column(name)
        cells = [None if cell is None else parse(cell) for cell in found]
        wrong = sum(cell is not None and value is None for cell, value in zip(found, cells, strict=True))
        if wrong:
            raise CommandError(f"{current}: {name}: not as in a prediction ({kind}) in {wrong} of {len(cells)} rows")
        now[name] = _column(cells, kind)
        known = score.tolist() if name == PROBABILITY else (score >= manifest.threshold).tolist()
        reference[name] = _column(known, kind)
    return reference, now


def _reference_frame(manifest: Manifest, reference: Reference) -> pd.DataFrame:
    import pandas as pd

    from schemas.features import Layout

    layout = Layout(manifest.features)
    numbers, codes = iter(reference.numeric.T), iter(zip(reference.codes.T, layout.categories, strict=True))
    columns: dict[str, Any] = {}
    for feature in manifest.features:
        if feature.kind == "numeric":
            columns[feature.name] = next(numbers)
        else:
            column, categories = next(codes)
            columns[feature.name] = _column([categories[code] if code >= 0 else None for code in column], feature.kind)
    return pd.DataFrame(columns)


def _column(values: list[Any], kind: str) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    if kind == "numeric":
        return pd.Series([np.nan if value is None else float(value) for value in values], dtype="float64")
    texts = [str(value).lower() if isinstance(value, bool) else value for value in values]
    return pd.Series([np.nan if text is None else text for text in texts], dtype=object)


def _run(reference: pd.DataFrame, now: pd.DataFrame, numeric: list[str], categorical: list[str], out: Path) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    data = [Dataset.from_pandas(frame, data_definition=definition) for frame in (now, reference)]
    try:
        Report([DataDriftPreset()]).run(*data).save_html(str(out))
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror or error}") from None
