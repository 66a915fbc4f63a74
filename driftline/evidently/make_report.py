"""Evidently's HTML report on two tables, in Evidently's environment.

make_report.py TABLES.json OUT.html; TABLES.json: {"reference", "current": column → list, "numeric", "categorical":
names of columns, "target": the name of the outcome's column, or null}; null = missing.
"""

import json
import os
import sys
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "1"

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift
from evidently.presets import DataDriftPreset, DataSummaryPreset

tables = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
definition = DataDefinition(numerical_columns=tables["numeric"], categorical_columns=tables["categorical"])
reference, current = (
    Dataset.from_pandas(
        pd.DataFrame(tables[name]).astype(dict.fromkeys(tables["numeric"], "float64")), data_definition=definition
    )
    for name in ("reference", "current")
)
target = [] if tables["target"] is None else [ValueDrift(column=tables["target"])]
Report([*target, DataDriftPreset(), DataSummaryPreset()]).run(current, reference).save_html(sys.argv[2])
