"""Facts → the performance of cohorts: the predictions of one UTC day by one model version. Pure.

Only a final cohort measures how good the model was. Before that, labels of customers who leave arrive first, and an
accuracy of .81 reads .55. So a provisional cohort shows the number of known outcomes of each kind and raises no alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from drift_worker.performance import class_estimate, error_estimate, label_free_estimate
from drift_worker.performance.any_rows import AnyRows
from drift_worker.performance.classification_metrics import Rows, performance
from drift_worker.performance.clustered_error import Estimated, Floats
from drift_worker.performance.label_join import UNKNOWN, Ints, Joined, Predictions, identify, join, matched
from drift_worker.performance.label_store import DAY_MS, DayVersion, LabelStore, day_name
from drift_worker.performance.money import business_value, money_of
from drift_worker.performance.multiclass_metrics import ClassRows, class_performance, of_each_class
from drift_worker.performance.regression_metrics import ValueRows, value_performance
from drift_worker.performance.task_facts import ClassFacts
from schemas.bundle.manifest import Manifest
from schemas.performance import (
    AnyPerformance,
    Band,
    ClassCoverage,
    ClassLabelCount,
    ClassPerformance,
    Cohort,
    Coverage,
    LabelCount,
    Metric,
    Performance,
    Value,
    ValueCoverage,
    ValueLabelCount,
    ValuePerformance,
)
from schemas.task import TaskName
from schemas.timestamps import render

# Outcomes in one cohort that are of classes which the model does not have: so many are named.
UNSEEN_NAMES = 20


@dataclass(frozen=True, slots=True)
class CohortConfig:
    """The parameters of an evaluation."""

    #: Of the reference bundle. Expected and estimated metrics exist for its version alone.
    manifest: Manifest
    #: A label belongs to a prediction within this time.
    horizon_ms: int
    #: The same, as it is set.
    horizon: str

    def business(self, rows: AnyRows) -> Value | None:
        """Return what the rows are worth; None if the bundle does not state it."""
        stated = self.manifest.business
        money = money_of(stated, self.manifest.classes)
        return None if money is None or stated is None else Value(stated.currency, _metric(business_value(rows, money)))


def evaluate(
    config: CohortConfig,
    store: LabelStore,
    cohorts: Sequence[DayVersion],
    now_ms: int,
    status: Literal["provisional", "final"],
) -> list[AnyPerformance]:
    """Return one cohort for each (named as in `LabelStore.days`), in the order given. now_ms: event time.

    In a provisional cohort an absent label is not negative: the label may still arrive.
    """
    if not cohorts:
        return []
    predictions = store.predictions()
    joined = _JOINED[config.manifest.predicts.name](config, store, now_ms, status)
    starts = predictions["time_ms"] // DAY_MS * DAY_MS
    found = []
    for start, version in cohorts:
        mine = np.flatnonzero((starts == start) & (predictions["version"] == version))
        # in a fixed order: so the sums of floats do not depend on the order in which facts arrived
        mine = mine[np.lexsort((predictions["prediction"][mine], predictions["customer"][mine]))]
        made = predictions[mine]
        head = Head(
            model=config.manifest.name,
            model_version=store.versions[version],
            cohort=Cohort(day_name(start), render(start), render(start + DAY_MS)),
            status=status,
            horizon=config.horizon,
            predictions=len(made),
            customers=len(np.unique(made["customer"])),
        )
        found.append(joined.cohort(head, made, mine))
    return found


class Head(TypedDict):
    """The members of a cohort that do not depend on the task."""

    model: str
    model_version: str
    cohort: Cohort
    status: Literal["provisional", "final"]
    horizon: str
    predictions: int
    customers: int


class JoinedTask(Protocol):
    """The predictions of one task with their outcomes."""

    def cohort(self, head: Head, made: Predictions, rows: Ints) -> AnyPerformance:
        """Return one cohort: `made` are its predictions, in a fixed order, and `rows` where they are among all."""


def _expected(manifest: Manifest, version: str) -> dict[str, Metric]:
    """Return what held-out customers gave; empty for another version than the bundle's."""
    if version != manifest.version:
        return {}
    return {name: Metric(value, manifest.metric_errors.get(name)) for name, value in manifest.metrics.items()}


class _JoinedValues:
    """Predictions of a regression."""

    def __init__(self, config: CohortConfig, store: LabelStore, now_ms: int, status: str) -> None:
        """Join. now_ms, status: an absent label of a number means nothing, at any time."""
        del now_ms, status
        self._config = config
        predictions, labels = store.predictions(), store.labels()
        chosen, _ = matched(predictions, labels, config.horizon_ms)
        self._known = chosen >= 0
        self._outcome = np.full(len(predictions), np.nan)
        self._outcome[self._known] = labels["label"][chosen[self._known]]

    def cohort(self, head: Head, made: Predictions, rows: Ints) -> ValuePerformance:
        """Return the errors of the values whose outcome is known."""
        known = self._known[rows]
        told = made[known]
        ends = () if bool(np.isnan(made["low"]).all()) else (_array(told["low"]), _array(told["high"]))
        found = ValueRows(self._outcome[rows][known], _array(told["value"]), told["customer"], *ends)
        manifest = self._config.manifest
        ours = head["model_version"] == manifest.version
        return ValuePerformance(
            **head,
            labels=ValueLabelCount(int(known.sum())),
            coverage=ValueCoverage(float(known.mean())),
            metrics={name: _metric(one) for name, one in value_performance(found).items()},
            business=self._config.business(found),
            expected=_expected(manifest, head["model_version"]),
            estimated=_estimated_error(manifest, made) if ours else {},
            estimated_labelled=_estimated_error(manifest, told) if ours else {},
        )


def _estimated_error(manifest: Manifest, made: Predictions) -> dict[str, Band | None]:
    """Return the error estimated from the values alone; empty if the bundle has no curve."""
    if manifest.error_curve is None or not len(made):
        return {}
    return _bands(error_estimate.estimate(_array(made["value"]), manifest.error_curve, _customers(made)))


def _array(column: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Floats:
    """Return a column of rows as an array of its own, so that numpy sums it in the order of contiguous values."""
    return np.ascontiguousarray(column)


class _JoinedClasses:
    """Predictions of a model with several classes."""

    def __init__(self, config: CohortConfig, store: LabelStore, now_ms: int, status: str) -> None:
        """Join. now_ms, status: an absent label means nothing, at any time."""
        del now_ms, status
        assert isinstance(store.facts, ClassFacts), "the store is of the model's task"  # noqa: S101
        self._config = config
        self._classes = config.manifest.classes or ()
        labels = store.labels()
        self._chosen, _ = matched(store.predictions(), labels, config.horizon_ms)
        self._said = labels["label"]
        self._names = store.facts.names

    def cohort(self, head: Head, made: Predictions, rows: Ints) -> ClassPerformance:
        """Return accuracy and the like, of all classes and of each."""
        chosen = self._chosen[rows]
        known = chosen >= 0
        outcomes, predicted = self._said[chosen[known]], made["label"]
        names = self._ordered(outcomes, predicted)
        found = ClassRows(
            _codes(outcomes, names),
            _codes(predicted[known], names),
            self._probabilities(made[known]),
            made["customer"][known],
        )
        of_outcomes = np.bincount(found.outcome, minlength=len(names)).tolist()
        n = len(self._classes)
        unseen = {name: count for name, count in zip(names[n:], of_outcomes[n:], strict=True) if count}
        most = sorted(unseen.items(), key=lambda pair: (-pair[1], pair[0]))[:UNSEEN_NAMES]
        ours = head["model_version"] == self._config.manifest.version
        promised = self._estimates(made) if ours else None
        of_labelled = self._estimates(made[known]) if ours else None
        of_predictions = _codes(predicted, names)
        made_of = _counted(of_predictions, names)
        heard_of = _counted(of_predictions[known], names)
        return ClassPerformance(
            **head,
            predicted=made_of,
            labels=ClassLabelCount(
                int(known.sum()), dict(zip(self._classes, of_outcomes[:n], strict=True)), dict(most)
            ),
            coverage=ClassCoverage(
                float(known.mean()), {name: heard_of.get(name, 0) / made for name, made in made_of.items()}
            ),
            metrics={name: _metric(one) for name, one in class_performance(found).items()},
            classes={
                names[code]: {name: _metric(one) for name, one in each.items()}
                for code, each in of_each_class(found).items()
            },
            business=self._config.business(found),
            expected=_expected(self._config.manifest, head["model_version"]),
            estimated={} if promised is None else _bands(promised.overall),
            estimated_classes={}
            if promised is None
            else {name: _bands(one) for name, one in zip(self._classes, promised.classes, strict=True)},
            estimated_labelled={} if of_labelled is None else _bands(of_labelled.overall),
        )

    def _estimates(self, made: Predictions) -> class_estimate.ClassEstimates | None:
        """Return what the probabilities alone promise; None if the bundle has no calibration, or none are known."""
        calibration, shares = self._config.manifest.class_calibration, self._probabilities(made)
        if calibration is None or not len(made) or bool(np.isnan(shares).any()):
            return None
        return class_estimate.estimate(shares, self._classes, calibration, _customers(made))

    def _ordered(self, *hashes: NDArray[np.uint64]) -> list[str]:
        """Return the names of the model's classes, then of others that occur, in the order of their names."""
        others = {self._names[number] for number in np.unique(np.concatenate(hashes)).tolist()}
        return [*self._classes, *sorted(others - set(self._classes))]

    def _probabilities(self, made: Predictions) -> Floats:
        if "probabilities" not in (made.dtype.names or ()):
            return np.full((len(made), len(self._classes)), np.nan)
        return np.ascontiguousarray(made["probabilities"])


def _counted(codes: Ints, names: Sequence[str]) -> dict[str, int]:
    """Return how often each class occurs; those that do not are left out."""
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return {name: count for name, count in zip(names, counts, strict=True) if count}


def _codes(hashes: NDArray[np.uint64], names: Sequence[str]) -> Ints:
    """Return the place of each class among the names, int64 (n,)."""
    known = np.array([identify(name) for name in names], dtype=np.uint64)
    order = np.argsort(known)
    codes: Ints = order[np.searchsorted(known[order], hashes)]
    return codes


class _JoinedBinary:
    """Predictions of a binary model."""

    def __init__(self, config: CohortConfig, store: LabelStore, now_ms: int, status: str) -> None:
        """Join; in a final cohort an absent label may be negative."""
        self._config = config
        absent = status == "final" and config.manifest.absent_label == "negative"
        self._joined = join(
            store.predictions(), store.labels(), config.horizon_ms, absent_negative=absent, now_ms=now_ms
        )

    def cohort(self, head: Head, made: Predictions, rows: Ints) -> Performance:
        """Return accuracy and the like, and what the scores alone promise."""
        joined = Joined(self._joined.outcome[rows], self._joined.label[rows], self._joined.unmatched)
        return _binary(self._config, head, made, joined)


#: By task: what joins predictions and labels.
_JOINED: dict[TaskName, Callable[[CohortConfig, LabelStore, int, str], JoinedTask]] = {
    "binary": _JoinedBinary,
    "multiclass": _JoinedClasses,
    "regression": _JoinedValues,
}


def _binary(config: CohortConfig, head: Head, made: Predictions, joined: Joined) -> Performance:
    known = joined.outcome != UNKNOWN
    rows = Rows(
        outcome=joined.outcome[known] == 1,
        probability=made["probability"][known],
        predicted=made["positive"][known],
        customer=made["customer"][known],
    )
    manifest = config.manifest
    ours = head["model_version"] == manifest.version
    positive = int(rows.outcome.sum())
    return Performance(
        **head,
        labels=LabelCount(positive, int(known.sum()) - positive, absent=int((known & (joined.label < 0)).sum())),
        coverage=_coverage(config, made, joined, ours=ours),
        metrics={name: _metric(one) for name, one in performance(rows).items()},
        business=config.business(rows),
        expected=_expected(manifest, head["model_version"]),
        estimated=_estimated(config, made) if ours else {},
        estimated_labelled=_estimated(config, made[known]) if ours else {},
    )


def _coverage(config: CohortConfig, made: Predictions, joined: Joined, *, ours: bool) -> Coverage:
    known = joined.outcome != UNKNOWN
    promised = made["probability"]
    if ours and config.manifest.calibration is not None:
        promised = label_free_estimate.calibrated(promised, config.manifest.calibration)
    hopes = float(promised.sum())
    return Coverage(
        all=float(known.mean()),
        positive=_share(int((joined.outcome == 1).sum()), hopes),
        negative=_share(int((joined.outcome == 0).sum()), len(made) - hopes),
        predicted_positive=_share(int((known & made["positive"]).sum()), float(made["positive"].sum())),
        predicted_negative=_share(int((known & ~made["positive"]).sum()), float((~made["positive"]).sum())),
    )


def _share(part: int, whole: float) -> float | None:
    return part / whole if whole > 0.0 else None


def _metric(one: Estimated) -> Metric:
    return Metric(one.value, one.error, one.low, one.high, one.reason)


def _estimated(config: CohortConfig, made: Predictions) -> dict[str, Band | None]:
    """Return the metrics estimated from the scores alone; empty if the bundle has no calibration."""
    calibration = config.manifest.calibration
    if calibration is None or not len(made):
        return {}
    probability: Floats = np.ascontiguousarray(made["probability"])
    threshold = config.manifest.binary("performance").threshold
    return _bands(label_free_estimate.estimate(probability, threshold, calibration, _customers(made)))


def _customers(made: Predictions) -> Ints:
    """Return int64 (n,), equal for rows of one customer."""
    codes: Ints = np.unique(made["customer"], return_inverse=True)[1]
    return codes


def _bands(found: Mapping[str, label_free_estimate.Estimate | None]) -> dict[str, Band | None]:
    return {
        name: None if one is None else Band(one.value, one.low, one.high, one.sampling, one.calibration)
        for name, one in found.items()
    }
