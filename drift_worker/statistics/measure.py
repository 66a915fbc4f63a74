"""Window counts × reference → numbers. `drift_worker.alerting.findings` decides what is too much.

A distribution may be compared with that of past weeks instead of the reference's. Missing, unseen and broken values are
always compared with the reference: no season explains them.

All features are computed side by side, because a window has a thousand small sums and a call of numpy's costs more than
most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from drift_worker.counts import aggregate
from drift_worker.counts.bins import Cells, NumericCells, Vector
from drift_worker.statistics import chi2, data_quality, design_effect, ks, psi, rates, wasserstein
from drift_worker.statistics.baseline import Columns, Distribution, mean_score
from drift_worker.statistics.calm_past import DISTRIBUTION, LEAST, LEAST_SPANS, CalmPast, Instead, Learn, Seen
from drift_worker.statistics.catalogue import COMMON_EFFECTS, TESTS
from drift_worker.statistics.comparison import Compared, compare
from drift_worker.statistics.feature_table import AnyColumn, Before, Subjects, Tables, shares
from drift_worker.statistics.rates import LocalChange, local_change
from drift_worker.statistics.stacked import NumberPair
from schemas.bundle.manifest import SelfCheck
from schemas.measurement import TRAINING, WEEK, Bins, FeatureMeasurement
from schemas.reference import Reference

# A rate that grew must be seen in this many customer groups: one customer's habit is no drift.
LEAST_GROUPS = 3
NOT_ENOUGH = "not_enough_data"
REFERENCE_TOO_SMALL = "reference_too_small"
ALL_MISSING = "all_missing"
# The statistics of a number that one function computes, by name in the catalogue. None: not known.
OF_NUMBERS: Mapping[str, Callable[[NumberPair], float | None]] = {
    "ks": ks.of_pair,
    "wasserstein": wasserstein.of_pair,
}
CONSTANT = "constant"
UNIT_JUMP = "unit_jump"

Window = Mapping[int, Vector]
Slots = Mapping[int, Distribution]  # by series: what it is compared with instead of the reference's rows
_NO_SLOTS: Slots = {}


class Measurer:
    """Measures windows against one reference. Made once per bundle; no state between windows.

    A window maps a series to its vector; a series without counts may be absent.
    """

    def __init__(
        self, cells: Cells, reference: Reference, min_events: int, self_check: SelfCheck | None = None
    ) -> None:
        """Take `min_events`: fewer effective events in the window, or fewer reference rows, are not enough data.

        `self_check` is that of this reference (None: none was made). A statistic that strays from its null distribution
        is divided by its λ before it is tested.
        """
        self.columns = Columns(cells, reference, causes=True)
        self._labelled = cells.labelled
        self._min_events = min_events
        checked = self_check if self_check is not None else SelfCheck()
        names = [feature.name for feature in cells.features]
        self._names = dict(enumerate(names))
        self._features = Subjects(
            dict(enumerate(self.columns.features)),
            {series: checked.features.get(name, {}) for series, name in enumerate(names)},
        )
        of_score: dict[int, AnyColumn] = {aggregate.SCORE: self.columns.score}
        if self.columns.predicted is not None:
            of_score[aggregate.PREDICTED] = self.columns.predicted
        self._score = Subjects(of_score, {aggregate.SCORE: checked.score})

    @property
    def tests(self) -> int:
        """Return the number of tests of one window, of distributions and rates, including those that were not made."""
        rates_of = {"numeric": 1, "categorical": 2, "boolean": 2}  # missing; and unseen, which a boolean cannot be
        kinds = [
            _kind(column, series) for series, column in zip(self._features.series, self._features.columns, strict=True)
        ]
        of_classes = 0 if self.columns.predicted is None else len(TESTS["boolean"])
        return sum(len(TESTS[kind]) + rates_of[kind] for kind in kinds) + len(TESTS["score"]) + of_classes

    def past_of_features(self, length_ms: int, vector: Vector | None = None, *, seasonal: bool = False) -> CalmPast:
        """Return the calm past of the features in windows of one length, empty or as `vector` holds it."""
        return CalmPast(self._features.profiles, length_ms, vector, seasonal=seasonal)

    def past_of_score(self, length_ms: int, vector: Vector | None = None, *, seasonal: bool = False) -> CalmPast:
        """Return that of the score."""
        return CalmPast(self._score.profiles, length_ms, vector, seasonal=seasonal)

    def learn_features(self, past: CalmPast, stirring: set[str | None], how: Learn = Learn.NOW) -> None:
        """Add the window that was measured last to the calm past of the features, but for those that are `stirring`."""
        calm = [self._names[series] not in stirring for series in self._features.series]
        past.learn(np.array(calm, dtype=np.bool_), how)

    def learn_score(self, past: CalmPast, stirring: set[str | None], how: Learn = Learn.NOW) -> None:
        """Add it to that of the score, whose name is None."""
        past.learn(np.array([None not in stirring] * len(self._score.series)), how)

    def features(
        self,
        window: Window,
        slots: Slots = _NO_SLOTS,
        past: CalmPast | None = None,
        *,
        least: float | None = None,
        shorter: CalmPast | None = None,
        spans: bool = False,
    ) -> dict[str, FeatureMeasurement]:
        """Return every feature by name; `past`: what it is compared with beside the reference.

        least: how many independent values are enough, if other than `min_events`. shorter: of a window without a past,
        that of shorter windows; what they vary by is no evidence (`statistics.calm_past`). spans: whether the window is
        judged with those before it.
        """
        measured = self._measure(self._features, window, slots, aggregate.CUSTOMERS, past, least, shorter, spans=spans)
        return {name: measured[series] for series, name in self._names.items()}

    def score(
        self,
        window: Window,
        slots: Slots = _NO_SLOTS,
        past: CalmPast | None = None,
        *,
        least: float | None = None,
        shorter: CalmPast | None = None,
        spans: bool = False,
    ) -> FeatureMeasurement:
        """Return the score, with its mean and, of a binary model, the share of positive labels; the rest as above.

        Of several classes, the score is the largest probability, and how far the shares of the classes moved is added.
        """
        column = self.columns.score
        each = self._measure(self._score, window, slots, aggregate.SCORED_CUSTOMERS, past, least, shorter, spans=spans)
        measured = each[aggregate.SCORE]
        if aggregate.PREDICTED in each:
            measured = _with_classes(measured, each[aggregate.PREDICTED])
        if not measured.events:
            return measured
        total, labels = column.cells.score_sums(window[aggregate.SCORE])
        return replace(
            measured,
            mean=mean_score(total, measured.events, column.cells.unit),
            reference_mean=slots.get(aggregate.SCORE, column.training).mean,
            positive_ratio=labels / measured.events if self._labelled else None,
        )

    def _measure(
        self,
        subjects: Subjects,
        window: Window,
        slots: Slots,
        sketch: int,
        past: CalmPast | None,
        least: float | None,
        shorter: CalmPast | None,
        *,
        spans: bool,
    ) -> dict[int, FeatureMeasurement]:
        """Return every subject by series."""
        sized = subjects.sizes(window)
        enough = self._min_events if least is None else least
        if max(events + gone for events, gone in sized) < enough:
            if past is not None:
                past.pass_over()
            small = _too_small(subjects, sized, compared=past is not None)
            return dict(zip(subjects.series, small, strict=True))
        tables, before = subjects.tables(window), subjects.before(slots)
        sizes = subjects.spans.sums(tables.cells)
        m = int((sizes + tables.missing).sum(axis=0).max())  # of every subject, but for one without counts
        # m/m_kish, at least 1: the design effect if all repeats of a customer were identical
        repeat = aggregate.sum_of_squares(window[sketch], m) / m if m and sketch in window else 1.0
        measured = _rates(subjects, tables, sizes, repeat, enough)
        varies = None if shorter is None else shorter.variation(len(subjects.series))
        compared = compare(subjects, before, tables.cells, repeat, varies)
        for at, (one, m_eff, most, n) in enumerate(
            zip(measured, compared.effective.tolist(), compared.most.tolist(), before.effective.tolist(), strict=True)
        ):
            if one.reason is None and (reason := self._too_little(most, n, enough)) is not None:
                measured[at] = replace(one, effective=m_eff, reason=reason)
        known = np.array([one.reason is None for one in measured])
        for at in range(subjects.numbers):
            if measured[at].events and measured[at].missing_ratio is not None:
                measured[at] = _quality(subjects, at, window, measured[at], float(compared.effective[at]))
        far = np.zeros((subjects.numbers, 2))
        for at, found in (
            *_numbers(subjects, before, compared, np.flatnonzero(known), window, tables),
            *_categories(subjects, before, compared, np.flatnonzero(known), tables),
        ):
            measured[at] = found.added_to(measured[at])
            if at < subjects.numbers:
                far[at] = found.far
        if varies is not None:
            measured = [
                replace(one, natural_variation=float(phi)) if one.effect is not None else one
                for one, phi in zip(measured, varies, strict=True)
            ]
        if past is not None:
            instead = None
            if past.seasonal:
                weeks = np.array([one.against == WEEK for one in before.each])
                instead = Instead(before.smoothed, before.effective, weeks)
            compared_with_past = past.compare(
                _seen(subjects, tables, compared, measured, far, repeat), instead, LEAST_SPANS if spans else LEAST
            )
            measured = [
                replace(one, past=log_p, natural_variation=float(phi) if DISTRIBUTION in log_p else None)
                for one, log_p, phi in zip(measured, *compared_with_past, strict=False)
            ]
        return dict(zip(subjects.series, measured, strict=True))

    def _too_little(self, m_eff: float, n: float, enough: float) -> str | None:
        if n < self._min_events:
            return REFERENCE_TOO_SMALL
        return NOT_ENOUGH if m_eff < enough else None


def _with_classes(score: FeatureMeasurement, classes: FeatureMeasurement) -> FeatureMeasurement:
    """Return a score's measurement with the largest share of a predicted class that moved, and its test.

    One movement of predictions is one alert, whichever of both shows it; a change needs either of both pasts.
    """
    if score.effect is None or classes.linf is None or score.against != classes.against:
        return score
    past = score.past
    if past is not None and classes.past is not None:
        known = [p[DISTRIBUTION] for p in (past, classes.past) if DISTRIBUTION in p]
        past = {**past, **({DISTRIBUTION: min(known)} if known else {})}
    tests = {**score.tests, **{name: p for name, p in classes.tests.items() if name == "chi2"}}
    log10_p = min((p for p in (score.log10_p, classes.log10_p) if p is not None), default=None)
    effect = max(score.effect, classes.linf)
    return replace(score, linf=classes.linf, tests=tests, log10_p=log10_p, effect=effect, past=past)


def _rates(
    subjects: Subjects, tables: Tables, sizes: design_effect.Table, repeat: float, min_events: float
) -> list[FeatureMeasurement]:
    """Return sizes, missing and unseen rates and their tests; `reason` is set if no distribution can be measured."""
    present, missing = (table.sum(axis=0).astype(np.int64).tolist() for table in (sizes, tables.missing))
    unseen = [0] * subjects.numbers + tables.unseen.sum(axis=0).astype(np.int64).tolist()
    groups_missing = np.count_nonzero(tables.missing, axis=0).tolist()
    groups_unseen = [0] * subjects.numbers + np.count_nonzero(tables.unseen, axis=0).tolist()
    deff_missing = design_effect.deff_rate(tables.missing, sizes + tables.missing, repeat).tolist()
    deff_unseen = [1.0] * subjects.numbers
    deff_unseen += design_effect.deff_rate(tables.unseen, sizes[:, subjects.numbers :], repeat).tolist()
    measured = []
    for at, column in enumerate(subjects.columns):
        events, gone = present[at], missing[at]
        m, n = events + gone, column.present + column.missing
        one = _sized(subjects, at, events)
        if m < min_events:
            measured.append(replace(one, reason=NOT_ENOUGH))
            continue
        tests: dict[str, float] = {}
        grew = gone * n > column.missing * m
        if gone + column.missing and not (grew and groups_missing[at] < LEAST_GROUPS):
            tests["missing"] = rates.log10_p_two_sided(column.missing, n, gone, m, m / deff_missing[at])
        if column.cells.open and events and groups_unseen[at] >= LEAST_GROUPS:
            m_eff = events / deff_unseen[at]
            tests["unseen"] = rates.log10_p_more(column.unseen, column.present, unseen[at], events, m_eff)
        no_reference = REFERENCE_TOO_SMALL if not column.present else None
        all_missing = not events and column.present and tests.get("missing", 0.0) <= data_quality.BROKEN_LOG10_P
        measured.append(
            replace(
                one,
                missing_ratio=gone / m,
                unseen_ratio=unseen[at] / events if column.cells.open and events else None,
                tests=tests,
                quality=ALL_MISSING if all_missing else None,
                reason=no_reference if events else ALL_MISSING,
            )
        )
    return measured


def _sized(subjects: Subjects, at: int, events: int) -> FeatureMeasurement:
    """Return a measurement with its number of values, and what the reference has."""
    column = subjects.columns[at]
    return FeatureMeasurement(
        kind=_kind(column, subjects.series[at]),
        events=events,
        reference=column.present,
        reference_missing_ratio=column.missing / (column.present + column.missing),
        reference_unseen_ratio=column.unseen / max(1, column.present) if column.cells.open else None,
    )


def _too_small(subjects: Subjects, sized: Sequence[tuple[int, int]], *, compared: bool) -> list[FeatureMeasurement]:
    """Return the subjects of a window with too few events for any number, without computing one.

    A first start over years of events has tens of thousands of such windows. compared: there is a calm past.
    """
    return [
        replace(_sized(subjects, at, events), reason=NOT_ENOUGH, past={} if compared else None)
        for at, (events, _) in enumerate(sized)
    ]


def _kind(column: AnyColumn, series: int) -> str:
    if isinstance(column.cells, NumericCells):
        return "score" if series == aggregate.SCORE else "numeric"
    return "categorical" if column.cells.open else "boolean"


def _quality(subjects: Subjects, at: int, window: Window, one: FeatureMeasurement, m_eff: float) -> FeatureMeasurement:
    """Add the evidence that a number is broken, also for few values: the test itself allows for their number."""
    column, vector = subjects.columns[at], window[subjects.series[at]]
    cells = column.cells
    assert isinstance(cells, NumericCells), "numbers come first"  # noqa: S101
    log_p = data_quality.constant_log10_p(cells, column.vector, vector, m_eff) if column.present else None
    if log_p is not None:
        what = CONSTANT if log_p <= data_quality.BROKEN_LOG10_P else None
        return replace(one, quality=what, tests={**one.tests, "constant": log_p})
    jump = data_quality.unit_jump(cells, column.vector, vector)
    return one if jump is None else replace(one, quality=UNIT_JUMP, quality_detail=jump)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionMeasurement:
    """What is measured of one distribution."""

    #: What it was compared with: the training rows, or past weeks.
    against: str
    #: The number of independent values that it counts as.
    reference: int
    #: The number of independent values that the window counts as.
    effective: float
    #: Value by the name of a statistic in the catalogue; one that is not known is left out.
    statistics: Mapping[str, float]
    #: log10 p by the name of a test.
    tests: Mapping[str, float]
    #: The PSI that one window in a thousand exceeds without drift.
    null_999: float | None
    #: How far the mean score moves with the shares.
    score_shift: float
    #: The shares, for a picture.
    bins: Bins
    #: Of a number, how many values are out of range, and how many are the most frequent rare value.
    far: tuple[int, int] = (0, 0)

    @property
    def effect(self) -> float:
        """Return the value that is compared with the limits: the largest of those statistics."""
        return max(self.statistics[known.name] for known in COMMON_EFFECTS if known.name in self.statistics)

    def added_to(self, one: FeatureMeasurement) -> FeatureMeasurement:
        """Return the measurement of a feature with these numbers."""
        return replace(
            one,
            against=self.against,
            reference=self.reference,
            effective=self.effective,
            **self.statistics,
            tests={**self.tests, **one.tests},
            log10_p=min(self.tests.values(), default=None),
            effect=self.effect,
            null_999=self.null_999,
            score_shift=self.score_shift,
            bins=self.bins,
        )


def _numbers(
    subjects: Subjects, before: Before, compared: Compared, known: NDArray[np.intp], window: Window, tables: Tables
) -> Iterator[tuple[int, DistributionMeasurement]]:
    """Yield the place and the measurement of each number in `known`."""
    n = subjects.numbers
    rows = known[known < n].tolist()
    distance = np.zeros(n)
    ends = np.zeros((n, psi.TEXTBOOK_BINS), dtype=np.int64)
    values: list[dict[str, float]] = [{} for _ in range(n)]
    local: dict[int, LocalChange] = {}
    for at in rows:
        cumulative, pair = _pair(subjects, before, compared, at, window)
        ends[at] = cumulative[subjects.textbook_ends[at]]
        known_of = {name: function(pair) for name, function in OF_NUMBERS.items()}
        values[at] = {name: value for name, value in known_of.items() if value is not None}
        distance[at] = values[at]["ks"]
        local[at] = found = _local(subjects, compared, at, window, tables)
        values[at] |= {"out_of_range_ratio": found.out_of_range, "spike_ratio": found.spike}
    textbook = np.diff(ends, axis=1, prepend=0)
    by_textbook = psi.psis(before.textbook, textbook).tolist()
    log_psi, log_ks = compared.log_psi.tolist(), ks.log10_p(distance / before.by_ks, compared.ks_h).tolist()
    null, now = (compared.null_999[:n] * before.by_psi).tolist(), shares(textbook)
    for at in rows:
        yield (
            at,
            DistributionMeasurement(
                against=before.each[at].against,
                reference=int(before.each[at].effective),
                effective=float(compared.effective[at]),
                statistics={
                    "psi": float(compared.psi[at]),
                    "psi_corrected": float(compared.psi_corrected[at]),
                    "psi_textbook": by_textbook[at],
                    **values[at],
                },
                tests={"psi": log_psi[at], "ks": log_ks[at], **local[at].tests},
                null_999=null[at],
                score_shift=float(compared.score_shift[at]),
                bins=Bins(subjects.names[at], before.shares[at], now[at]),
                far=local[at].counts,
            ),
        )


def _local(subjects: Subjects, compared: Compared, at: int, window: Window, tables: Tables) -> LocalChange:
    """Return what a few values of a number did; always compared with the reference, for no season explains them."""
    column = subjects.columns[at]
    assert isinstance(column.cells, NumericCells), "numbers come first"  # noqa: S101
    return local_change(
        column.cells.values(column.vector),
        column.rare,
        column.cells.values(window[subjects.series[at]]),
        float(compared.effective[at]),
        column.psi_cell,
        subjects.spans.of_feature(tables.cells, at),
    )


def _seen(
    subjects: Subjects,
    tables: Tables,
    compared: Compared,
    measured: Sequence[FeatureMeasurement],
    far: NDArray[np.float64],
    repeat: float,
) -> Seen:
    """Return the window by profile, in the order of `Subjects.profiles`."""
    n, effective, events = subjects.numbers, compared.effective, compared.events
    missing, unseen = tables.missing.sum(axis=0), tables.unseen.sum(axis=0)
    sizes = subjects.spans.sums(tables.cells) + tables.missing
    pairs = (
        (missing, events),
        (unseen, events[n:] - unseen),
        *((values, events[:n] - values) for values in far.T),
    )
    known = np.array([one.effect is not None for one in measured])
    return Seen(
        np.concatenate([compared.counts, *(np.column_stack(pair).ravel() for pair in pairs)]),
        np.concatenate(
            [
                effective,
                (missing + events) / design_effect.deff_rate(tables.missing, sizes, repeat),
                effective[n:],
                effective[:n],
                effective[:n],
            ]
        ),
        np.concatenate(
            [known, [one.missing_ratio is not None for one in measured], known[n:], known[:n], known[:n]],
            dtype=np.bool_,
        ),
    )


def _pair(subjects: Subjects, before: Before, compared: Compared, at: int, window: Window) -> tuple[Vector, NumberPair]:
    """Return a number's cumulative counts by value cell, and what its statistics are computed from."""
    column, reference = subjects.columns[at], before.each[at]
    assert isinstance(column.cells, NumericCells), "numbers come first"  # noqa: S101
    cumulative = np.cumsum(column.cells.values(window[subjects.series[at]]))
    if reference.against == TRAINING:
        return cumulative, NumberPair(reference.function, cumulative, column.positions, column.spread)
    # of past weeks only the PSI cells are kept
    counted = subjects.number_spans.of_feature(compared.counts, at).cumsum()
    return cumulative, NumberPair(reference.function, counted, column.psi_positions, column.spread)


def _categories(
    subjects: Subjects, before: Before, compared: Compared, known: NDArray[np.intp], tables: Tables
) -> Iterator[tuple[int, DistributionMeasurement]]:
    """Yield the place and the measurement of each category in `known`."""
    n = subjects.numbers
    rows = known[known >= n] - n
    if not len(rows):
        return
    statistic, df = chi2.chi2s(
        before.categories[rows], tables.categories[rows], compared.independent[n:][rows], rare_last=True
    )
    log_chi2 = chi2.log10_p(statistic / before.by_chi2[rows], df).tolist()
    now = shares(tables.categories)
    for at, log, tested in zip((rows + n).tolist(), log_chi2, (df > 0).tolist(), strict=True):
        column, names = subjects.columns[at], subjects.names[at]
        counted = now[at - n]
        yield (
            at,
            DistributionMeasurement(
                against=before.each[at].against,
                reference=int(before.each[at].effective),
                effective=float(compared.effective[at]),
                statistics={
                    "psi": float(compared.psi[at]),
                    "psi_corrected": float(compared.psi_corrected[at]),
                    "linf": float(compared.moved[at]),
                },
                tests={"chi2": log} if tested else {},
                null_999=float(compared.null_999[at]) if before.sizes[at] > 1 else None,
                score_shift=float(compared.score_shift[at]),
                bins=Bins(
                    names, before.shares[at], [*counted[: len(column.cells.categories)], *counted[-1:]][: len(names)]
                ),
            ),
        )
