"""Frouros's KSTest and ChiSquareTest per column at the level of its quick start, 0.001; it has no default level."""

import numpy as np
import pandas as pd
from frouros.detectors.data_drift import ChiSquareTest, KSTest
from streams import Look, answer

ALPHA = 0.001


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """One detector per column. Missing numbers are left out; a missing category is a value like any other."""
    detectors = {name: KSTest() if name in numeric else ChiSquareTest() for name in [*numeric, *categorical]}

    def values(frame: pd.DataFrame, name: str) -> np.ndarray:
        return frame[name].dropna().to_numpy() if name in numeric else frame[name].fillna("missing").to_numpy()

    for name, detector in detectors.items():
        detector.fit(X=values(reference, name))

    def look(window: pd.DataFrame) -> set[str]:
        tested = {name: detector.compare(X=values(window, name))[0] for name, detector in detectors.items()}
        return {name for name, result in tested.items() if result.p_value <= ALPHA}

    return look


answer(make)
