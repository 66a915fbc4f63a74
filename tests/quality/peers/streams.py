"""What the peers share: the streams as data frames, and the answers as lines of JSON. Runs in each peer's environment.

A script makes a detector of the reference, gives it window after window, and reports the columns that it finds drifted.
Numeric columns are float64, missing NaN; categorical ones are text, missing None, never seen "unseen".
"""

import json
import sys
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd

# A peer's result for the whole window, where it has one.
DATASET = "(dataset)"

Look = Callable[[pd.DataFrame], Collection[str]]


def _frame(names: list[str], categories: list[list[str]], numeric: np.ndarray, codes: np.ndarray) -> pd.DataFrame:
    columns = {name: numeric[:, i] for i, name in enumerate(names[: numeric.shape[1]])}
    for i, name in enumerate(names[numeric.shape[1] :]):
        # codes -1 (missing) and -2 (never seen) index from the end
        known = np.array([*categories[i], "unseen", None], dtype=object)
        columns[name] = known[codes[:, i]]
    return pd.DataFrame(columns)


def answer(make: Callable[[pd.DataFrame, list[str], list[str]], Look], *, looks_back: bool = False) -> None:
    """Look at every stream of the folder that the command line names; make: (reference, numeric, categorical) → look.

    looks_back: the detector remembers what it saw, so that it must see the windows before a drift, too. A stream is
    left as soon as the feature that moves has been named.
    """
    warnings.simplefilter("ignore")
    for path in sorted(Path(sys.argv[1]).glob("*.npz")):
        stream = np.load(path)
        names = stream["names"].tolist()
        categories = [text.split("|") for text in stream["categories"].tolist()]
        before, moved = int(stream["before"]), str(stream["moved"])
        numeric, codes = stream["windows_numeric"], stream["windows_codes"]
        split = numeric.shape[2]
        windows: list[list[str]] = []
        error, started = None, time.perf_counter()
        try:
            look = make(_frame(names, categories, stream["numeric"], stream["codes"]), names[:split], names[split:])
            for i in range(len(numeric)):
                if i < before and not looks_back:
                    continue
                called = sorted(look(_frame(names, categories, numeric[i], codes[i])))
                if i >= before:
                    windows.append(called)
                    if moved and moved in called:
                        break
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is this peer's answer to the stream
            error = f"{type(problem).__name__}: {problem}"[:300]
        seconds = time.perf_counter() - started
        said = {"case": path.stem, "windows": windows, "error": error, "seconds": seconds}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
