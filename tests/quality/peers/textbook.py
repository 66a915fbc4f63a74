"""The textbook's rule, on numpy and scipy: PSI over the reference's deciles above 0.2, or a KS test below 5 %."""

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from streams import Look, answer


def psi(reference: np.ndarray, window: np.ndarray) -> float:
    """Of two vectors of counts, with one event more in each cell so that none is empty."""
    p, q = ((counts + 1) / (counts.sum() + len(counts)) for counts in (reference, window))
    return float(((q - p) * np.log(q / p)).sum())


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """Missing values are left out, as both statistics need it."""
    known = {name: reference[name].dropna() for name in [*numeric, *categorical]}
    breaks = {name: np.percentile(known[name], np.arange(10, 100, 10)) for name in numeric}

    def look(window: pd.DataFrame) -> set[str]:
        called = set()
        for name in numeric:
            values, edges = window[name].dropna(), np.concatenate([[-np.inf], breaks[name], [np.inf]])
            counts = [np.histogram(x, edges)[0] for x in (known[name], values)]
            if psi(*counts) > 0.2 or ks_2samp(known[name], values).pvalue < 0.05:
                called.add(name)
        for name in categorical:
            shares = pd.concat([known[name].value_counts(), window[name].value_counts()], axis=1).fillna(0.0)
            if psi(shares.iloc[:, 0].to_numpy(), shares.iloc[:, 1].to_numpy()) > 0.2:
                called.add(name)
        return called

    return look


answer(make)
