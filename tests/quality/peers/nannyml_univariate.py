"""NannyML's UnivariateDriftCalculator with its defaults: Jensen-Shannon distance, three deviations of the reference's.

The reference is cut into chunks as large as a window; where they scatter, there the threshold is.
"""

import os

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import pandas as pd
from streams import Look, answer


def make(reference: pd.DataFrame, numeric: list[str], categorical: list[str]) -> Look:
    """Fitted for the first window's size; all windows of a stream are equally large."""
    fitted: list[nannyml.UnivariateDriftCalculator] = []

    def look(window: pd.DataFrame) -> set[str]:
        if not fitted:
            calculator = nannyml.UnivariateDriftCalculator(
                column_names=[*numeric, *categorical], treat_as_categorical=categorical, chunk_size=len(window)
            )
            fitted.append(calculator.fit(reference))
        found = fitted[0].calculate(window).filter(period="analysis").to_df()
        return {name for name in [*numeric, *categorical] if found[name, "jensen_shannon", "alert"].any()}

    return look


answer(make)
