"""River's ADWIN with its defaults, one per numeric column: it reads value after value and has no fixed reference.

It compares means of numbers; categories and missing values are not its subject and are left out.
"""

import numpy as np
import pandas as pd
from river import drift
from streams import Look, answer


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """The reference's rows are the stream's past."""
    del categorical
    detectors = {name: drift.ADWIN() for name in numeric}

    def look(window: pd.DataFrame) -> set[str]:
        called = set()
        for name, detector in detectors.items():
            values = window[name].to_numpy()
            for value in values[~np.isnan(values)].tolist():
                detector.update(value)
                if detector.drift_detected:
                    called.add(name)
        return called

    look(reference)
    return look


answer(make, looks_back=True)
