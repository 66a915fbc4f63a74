"""What was measured in one closed window: everything a policy needs, so that a backtest reads nothing else.

Unknown numbers are null, with a `reason` beside them; never 0.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

VERSION = 1
# What a distribution was compared with.
TRAINING: Final = "training"
WEEK: Final = "week"


class Window(msgspec.Struct, frozen=True):
    """[start, end) in event time, RFC 3339; `length` as it is configured, for instance `15m`."""

    length: str
    start: str
    end: str


class Sample(msgspec.Struct, frozen=True):
    """Events counted in the window, events that came after it was evaluated so far, records refused while it ran."""

    events: int
    late: int
    refused: int


class Level(msgspec.Struct, frozen=True):
    """Benjamini-Hochberg's q, the number of tests it is spread over, and the level of a single test behind it."""

    q: float
    tests: int
    single: float | None = None


class Bins(msgspec.Struct, frozen=True):
    """Shares for a picture. `edges`: inner edges of a numeric feature's bins (one fewer than bins), or categories."""

    edges: list[float | str]
    reference: list[float]
    window: list[float]


class FeatureMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, or the score, in one window.

    events: values present. effective: as how many independent ones they count. log10_p: of the strongest test of the
    distribution; `tests` has log10 p of every test made (psi, ks, chi2, missing, unseen). effect: the number that is
    compared with the limits: the larger of PSI* and D, or of PSI* and L∞. null_999: the PSI that one window in a
    thousand exceeds without drift. score_shift: how much the mean score moves with this feature's shares.
    quality: constant, all_missing or unit_jump. against: what the distribution was compared with, `training` or, with
    DRIFT_BASELINE=week, `week`, the same hours of past weeks; reference: of that, as how many independent values it
    counts (rows, of training). significant, state and the limits are the decision's, filled in last.
    effect_warning, effect_critical: what the effect is compared with; under policy classic, psi_textbook (else psi).
    """

    kind: str
    events: int
    effective: float | None = None
    psi: float | None = None
    psi_textbook: float | None = None
    psi_corrected: float | None = None
    ks: float | None = None
    linf: float | None = None
    log10_p: float | None = None
    effect: float | None = None
    missing_ratio: float | None = None
    unseen_ratio: float | None = None
    significant: bool | None = None
    state: str = "inactive"
    reason: str | None = None
    effect_warning: float | None = None
    effect_critical: float | None = None
    reference: int = 0
    reference_missing_ratio: float | None = None
    reference_unseen_ratio: float | None = None
    out_of_range_ratio: float | None = None
    tests: dict[str, float] = {}
    null_999: float | None = None
    score_shift: float | None = None
    quality: str | None = None
    quality_detail: str | None = None
    bins: Bins | None = None
    against: str = TRAINING
    mean: float | None = None
    reference_mean: float | None = None
    positive_ratio: float | None = None


class Episode(msgspec.Struct, frozen=True):
    """An alert that is open, or was closed in this window. `since`: startsAt of the alert."""

    status: str
    severity: str
    since: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided on beside the numbers: with it, a window can be decided again, under the same policy or another.

    tests, overlap: see drift_worker.decide.judge. together: the lengths of the windows that ended and were decided with
    this one, itself included, shortest first. first: counting began within this window, so that having few events says
    nothing. announced: False if it had ended too long ago to raise an alert. policy: drift_worker.decide.Policy.
    """

    tests: int
    overlap: float
    together: list[str]
    first: bool
    announced: bool
    policy: dict[str, Any]


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One closed window. `reason` says why it is not complete, where that is not a missing partition."""

    version: int = VERSION
    model: str
    model_version: str
    reference_sha256: str
    window: Window
    complete: bool
    missing_partitions: list[str] = []
    sample: Sample
    level: Level | None = None
    decision: Decision | None = None
    features: dict[str, FeatureMeasurement] = {}
    score: FeatureMeasurement | None = None
    episodes: dict[str, Episode] = {}
    offsets: dict[str, dict[str, tuple[int, int]]] = {}
    reason: str | None = None

    def encode(self) -> bytes:
        """The record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """The record's key: `{model}/{window}`."""
        return f"{self.model}/{self.window.length}".encode()


def decode_measurement(raw: bytes) -> Measurement:
    """The measurement back; ValueError if `raw` is not one of this version."""
    try:
        measurement = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a measurement: {error}") from None
    if measurement.version != VERSION:
        raise ValueError(f"measurement: version {measurement.version} is not known, only {VERSION}")
    return measurement


def is_window(key: bytes | None) -> bool:
    """Whether a record of drift-measurements with this key is a Measurement.

    Counts for a restart and the performance of cohorts stand on the same topic.
    """
    return key is None or not key.endswith((b"/counts", b"/performance"))


def as_json(value: Any) -> Any:
    """Builtin types for a page that shows it."""
    return msgspec.to_builtins(value)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Measurement)
