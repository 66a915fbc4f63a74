"""Finds the library. What it does is tried by those who use it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Literal

from kafka_runtime.service import logs

log = logs.get(__name__)

NAME = "driftline_native"
#: Of the calls that this version makes.
INTERFACE = 3
Wanted = Literal["auto", "python"]


def find(wanted: Wanted) -> ModuleType | str:
    """Return the library, or why there is none that fits and is wanted."""
    if wanted == "python":
        return "SCORER_LANE is python"
    try:
        library = importlib.import_module(NAME)
    except ModuleNotFoundError:
        return "driftline-native is not installed"
    except ImportError as error:
        return refused(f"driftline-native cannot be imported: {error}") or ""
    if library.INTERFACE != INTERFACE:
        has = f"driftline-native {library.VERSION} has interface {library.INTERFACE}, expected {INTERFACE}"
        return refused(has) or ""
    return library


def refused(why: str | None) -> str | None:
    """Log a reason against the library, if there is one; return it."""
    if why is not None:
        log.warning("native_lane_refused", reason=why)
    return why


def state_of(part: object, why_not: str | None) -> dict[str, str | None]:
    """Return who serves a part, and why it is not the library."""
    return {"served_by": "python" if part is None else "native", "why_not_native": why_not}
