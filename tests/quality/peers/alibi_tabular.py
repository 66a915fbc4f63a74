"""Alibi Detect's TabularDrift with its defaults: KS and χ² tests, Bonferroni's correction over the columns at 5 %.

Version 0.11.4 is the last one under the Apache licence; later ones are under the Business Source License.
"""

import numpy as np
import pandas as pd
from alibi_detect.cd import TabularDrift
from streams import DATASET, Look, answer


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """Categories are whole numbers in one array with the numbers, as its example of mixed data has them."""
    names = [*numeric, *categorical]
    numbers: dict[str, dict[str | None, int]] = {name: {} for name in categorical}

    def matrix(frame: pd.DataFrame) -> np.ndarray:
        codes = [frame[name].map(lambda v, of=numbers[name]: of.setdefault(v, len(of))) for name in categorical]
        return np.column_stack([frame[numeric].to_numpy(), *codes])

    detector = TabularDrift(
        matrix(reference), p_val=0.05, categories_per_feature={names.index(name): None for name in categorical}
    )

    def look(window: pd.DataFrame) -> set[str]:
        found = detector.predict(matrix(window), drift_type="batch")["data"]
        # under the corrected threshold: the columns that it reports as drifted
        called = {name for name, p in zip(names, found["p_val"], strict=True) if p < found["threshold"]}
        return called | ({DATASET} if found["is_drift"] else set())

    return look


answer(make)
