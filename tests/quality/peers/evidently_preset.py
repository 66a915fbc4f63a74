"""Evidently's DataDriftPreset with its tests, as its page "Data Drift" shows; methods and thresholds are its own.

Per column it chooses the method by type and size; the window as a whole has drifted if half of the columns have.
"""

import os

os.environ["DO_NOT_TRACK"] = "1"

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from streams import DATASET, Look, answer


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """One report per window."""
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    before = Dataset.from_pandas(reference, data_definition=definition)
    report = Report([DataDriftPreset()], include_tests=True)

    def look(window: pd.DataFrame) -> set[str]:
        done = report.run(Dataset.from_pandas(window, data_definition=definition), before)
        failed = [result for result in done.tests_results if result.status.value == "FAIL"]
        return {str(result.metric_config.params.get("column", DATASET)) for result in failed}

    return look


answer(make)
