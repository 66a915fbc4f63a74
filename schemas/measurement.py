"""The measurements of one closed window: all input of a policy, so that a backtest reads no other topic.

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


class Span(msgspec.Struct, frozen=True):
    """What is judged of a window with too few events: it and those before it, from `start` on."""

    #: RFC 3339, the start of the first window.
    start: str
    #: How many windows hold events, this one included.
    windows: int
    #: Events in all of them.
    events: int


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
    """One feature, or the score, in one window."""

    #: `numeric`, `categorical`, `boolean` or `score`.
    kind: str
    #: Values present.
    events: int
    #: The number of independent values that they count as.
    effective: float | None = None
    #: PSI on cells that do not collapse.
    psi: float | None = None
    #: PSI of the textbook, on ten quantile bins.
    psi_textbook: float | None = None
    #: PSI*: PSI less its expectation without drift, at least 0.
    psi_corrected: float | None = None
    #: Kolmogorov-Smirnov distance.
    ks: float | None = None
    #: The largest share that moved.
    linf: float | None = None
    #: log10 p of the strongest test of the distribution.
    log10_p: float | None = None
    #: The value that is compared with the limits: the larger of PSI* and D, or of PSI* and L∞.
    effect: float | None = None
    #: Share of events without a value.
    missing_ratio: float | None = None
    #: Share of values in categories that the reference does not have.
    unseen_ratio: float | None = None
    #: Filled in by the decision.
    significant: bool | None = None
    #: Filled in by the decision.
    state: str = "inactive"
    #: Why numbers are unknown.
    reason: str | None = None
    #: The limit of the effect for a warning; with policy classic, of psi_textbook (else psi).
    effect_warning: float | None = None
    #: The same for critical.
    effect_critical: float | None = None
    #: The number of independent values of the distribution that the window was compared with (rows, of training).
    reference: int = 0
    #: Share of reference rows without a value.
    reference_missing_ratio: float | None = None
    #: Share of unseen categories to be expected from the reference.
    reference_unseen_ratio: float | None = None
    #: Share of values outside the reference's range.
    out_of_range_ratio: float | None = None
    #: Increase in the share of one value that at most 1 % of the reference has.
    spike_ratio: float | None = None
    #: log10 p of every test made: psi, ks, chi2, out_of_range, spike, missing, unseen, constant.
    tests: dict[str, float] = {}
    #: The PSI that one window in a thousand exceeds without drift.
    null_999: float | None = None
    #: How much the mean score moves with this feature's shares.
    score_shift: float | None = None
    #: `constant`, `all_missing` or `unit_jump`.
    quality: str | None = None
    #: The factor of a unit, as `×100`.
    quality_detail: str | None = None
    #: Shares for a picture.
    bins: Bins | None = None
    #: What the distribution was compared with: `training`, or with DRIFT_BASELINE=week `week`, the same hours of past
    #: weeks.
    against: str = TRAINING
    #: Of the score.
    mean: float | None = None
    #: Of the score in the reference.
    reference_mean: float | None = None
    #: Share of positive labels.
    positive_ratio: float | None = None
    #: log10 p of each comparison with the calm past of the same stream: distribution, missing, unseen, out_of_range,
    #: spike. One that has no past yet is left out; None: windows of this length are not compared with a past.
    past: dict[str, float] | None = None
    #: φ, how much more the distribution varies from window to window than its customers explain; at least 1.
    natural_variation: float | None = None
    #: Wasserstein distance from the reference in its standard deviations; it never alerts.
    wasserstein: float | None = None


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """How two features went together in one window, or the score with all of them."""

    #: `correlation`, `association`, `segment` or `score`.
    kind: str
    #: Two features; of a segment the number first; of the score `score` alone.
    features: list[str]
    #: Of an association one category of each; of a segment the category. `other`: all that are rare, unseen or missing.
    categories: list[str] = []
    #: In the reference: the correlation, or the mean of the number within the category, in standard deviations.
    before: float
    #: The same in the window.
    now: float
    #: By how much it moved; of a segment, beyond the movement of the number in all categories.
    effect: float
    #: log10 p of that movement against the reference.
    log10_p: float
    #: log10 p against the calm past; None where there is none, or none yet.
    past: float | None = None
    #: φ: how much more the relations of these features vary from window to window than chance explains; at least 1.
    natural_variation: float | None = None


class Relations(msgspec.Struct, frozen=True, kw_only=True):
    """How the features of one window go together."""

    #: Events that were counted together.
    events: int = 0
    #: The number of independent events that they count as.
    effective: float | None = None
    #: The number of tests, made or not.
    tests: int = 0
    #: Whether a finding needs a change against the calm past as well.
    learns: bool = False
    #: The largest effect by kind, of the tests that were made.
    largest: dict[str, float] = {}
    #: The strongest movements: every one that may be found, up to 60, and of each kind the largest.
    moved: list[Relation] = []
    #: Filled in by the decision: log10 of the level of a single test.
    level: float | None = None
    #: Filled in by the decision: the movements of an alert, the strongest first, by its name.
    found: dict[str, list[int]] = {}
    #: Why nothing is known.
    reason: str | None = None


class Episode(msgspec.Struct, frozen=True):
    """An alert that is open, or was closed in this window."""

    #: `firing` or `resolved`.
    status: str
    #: `warning` or `critical`.
    severity: str
    #: startsAt of the alert.
    since: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The input of the decision beside the numbers: with it a window can be decided again, under any policy."""

    #: Tests of the window, made or not.
    tests: int
    #: The overlap of its customers with those of the window before it: Σkᵢ·lᵢ/(m·m').
    overlap: float
    #: The lengths of the windows that ended and were decided with this one, itself included, shortest first.
    together: list[str]
    #: Whether counting began within this window, so that few events are no evidence.
    first: bool
    #: False if it had ended too long ago to raise an alert.
    announced: bool
    #: The policy in force.
    policy: dict[str, Any]


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One closed window."""

    version: int = VERSION
    model: str
    model_version: str
    reference_sha256: str
    window: Window
    #: None: the window alone is judged. `sample` is always of the window, every other number of the span.
    span: Span | None = None
    complete: bool
    missing_partitions: list[str] = []
    sample: Sample
    level: Level | None = None
    decision: Decision | None = None
    features: dict[str, FeatureMeasurement] = {}
    score: FeatureMeasurement | None = None
    #: None: they are not counted for this bundle, or by the version that measured.
    relations: Relations | None = None
    episodes: dict[str, Episode] = {}
    offsets: dict[str, dict[str, tuple[int, int]]] = {}
    #: Why it is not complete, where that is not a missing partition.
    reason: str | None = None

    @property
    def judged_from(self) -> str:
        """Return the start of what is judged, RFC 3339."""
        return self.window.start if self.span is None else self.span.start

    def encode(self) -> bytes:
        """Return the record's value, JSON."""
        return _ENCODER.encode(self)

    def key(self) -> bytes:
        """Return the record's key: `{model}/{window}`."""
        return f"{self.model}/{self.window.length}".encode()


def decode_measurement(raw: bytes) -> Measurement:
    """Return the measurement; ValueError if `raw` is not one of this version."""
    try:
        measurement = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a measurement: {error}") from None
    if measurement.version != VERSION:
        raise ValueError(f"measurement: version {measurement.version} is not known, only {VERSION}")
    return measurement


def is_window(key: bytes | None) -> bool:
    """Return whether a record of drift-measurements with this key is a Measurement.

    Counts for a restart and the performance of cohorts are on the same topic.
    """
    return key is None or not key.endswith((b"/counts", b"/performance"))


def as_json(value: Any) -> Any:
    """Return builtin types for a page that shows it."""
    return msgspec.to_builtins(value)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Measurement)
