"""When a model is trained again: a table, with the row found from alerts and a given reason. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from schemas.alert import GROUP, RELATIONAL, Alert, AlertName

# A feature is important if the score moves by more than this on average when the feature's values are shuffled.
IMPORTANT = 0.01


class Trigger(StrEnum):
    """The event that starts a decision."""

    DRIFT = "drift"  # of an important feature, or of the score
    MINOR_DRIFT = "minor_drift"  # of features that hardly move the score
    PERFORMANCE = "performance"  # realised performance fell
    SCHEDULE = "schedule"  # only time has passed
    NEW_DATA = "new_data"  # more labelled customers than before
    MANUAL = "manual"  # a person requests it


# `--reason` of `driftline retrain`: a trigger that a person can give, or that of the open alerts. Whether a drift is
# minor follows from the features that drifted.
Reason = Literal["auto", "drift", "performance", "schedule", "new_data", "manual"]


class Action(StrEnum):
    """The response. None of them promotes."""

    BLOCK = "block"  # none: a model of broken data is worse than an old one
    WATCH = "watch"  # none: what moved has almost no weight in the model
    INVESTIGATE = "investigate"  # a plan for a person; without new labels, training would repeat the past
    RETRAIN = "retrain"  # train, and keep the candidate, also where the comparison is against it or not possible yet
    COMPARE = "compare"  # train, and keep the candidate if there are labels enough to compare it
    GAIN = "gain"  # train, and keep the candidate only if it is better on the held-out customers


# trigger → (data is sound, data is broken)
POLICY: Mapping[Trigger, tuple[Action, Action]] = {
    Trigger.DRIFT: (Action.INVESTIGATE, Action.BLOCK),
    Trigger.MINOR_DRIFT: (Action.WATCH, Action.BLOCK),
    Trigger.PERFORMANCE: (Action.RETRAIN, Action.BLOCK),
    Trigger.SCHEDULE: (Action.COMPARE, Action.BLOCK),
    Trigger.NEW_DATA: (Action.GAIN, Action.BLOCK),
    Trigger.MANUAL: (Action.COMPARE, Action.BLOCK),
}
TRAINS = {Action.RETRAIN, Action.COMPARE, Action.GAIN}

BROKEN = {AlertName.DATA_QUALITY, AlertName.MISSING_VALUES, AlertName.UNSEEN_CATEGORIES}
DRIFTED = {AlertName.FEATURE_DRIFT, AlertName.CLASSIC, AlertName.REFERENCE_MISMATCH}


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision, and the reasons."""

    trigger: Trigger
    action: Action
    #: One sentence each.
    because: tuple[str, ...]
    #: The features that open alerts name.
    drifted: tuple[str, ...] = ()


def decide(
    reason: Trigger | None,
    alerts: Iterable[Alert],
    importance: Mapping[str, float],
    defects: Iterable[str] = (),
    accepted: Iterable[str] = (),
) -> Decision:
    """Return the cell of POLICY. reason: a person's; None: the one that the open alerts give.

    alerts: the firing ones of this model. importance: how far the score moves on average when a feature is shuffled.
    defects: what is wrong with the data itself. accepted: features whose missing values or categories are intended.
    """
    open_alerts = list(alerts)
    meant = set(accepted)
    broken = [_named(alert) for alert in open_alerts if _is(alert, BROKEN) and not set(features_of(alert)) <= meant]
    drifted = tuple(dict.fromkeys(f for alert in open_alerts if _is(alert, DRIFTED) for f in features_of(alert)))
    because = [f"{alert} is open" for alert in broken] + list(defects)
    if reason is None:
        trigger, why = _trigger(open_alerts, drifted, importance)
    elif reason is Trigger.DRIFT and drifted and not _important(drifted, importance):
        trigger, why = Trigger.MINOR_DRIFT, f"hardly moves the score: {', '.join(drifted)}"
    else:
        trigger, why = reason, f"the reason given: {reason}"
    sound, unsound = POLICY[trigger]
    return Decision(trigger, unsound if because else sound, (*because, why), drifted)


def features_of(alert: Alert) -> tuple[str, ...]:
    """Return the features that an alert is about; none for one about the model."""
    feature = alert.labels.get("feature")
    if feature == GROUP:
        return tuple(member["feature"] for member in alert.members())
    return (feature,) if feature is not None else ()


def _trigger(alerts: list[Alert], drifted: tuple[str, ...], importance: Mapping[str, float]) -> tuple[Trigger, str]:
    """Return the gravest trigger of what is open, and the sentence about it."""
    if any(_is(alert, {AlertName.PERFORMANCE_DROP}) for alert in alerts):
        return Trigger.PERFORMANCE, "PerformanceDrop is open"
    if any(_is(alert, {AlertName.PREDICTION_DRIFT}) for alert in alerts):
        return Trigger.DRIFT, "PredictionDrift is open"
    if related := [alert.labels["alertname"] for alert in alerts if _is(alert, RELATIONAL)]:
        return Trigger.DRIFT, f"{' and '.join(sorted(related))} {'is' if len(related) == 1 else 'are'} open"
    if important := _important(drifted, importance):
        return Trigger.DRIFT, f"drifts, and moves the score: {', '.join(important)}"
    if drifted:
        return Trigger.MINOR_DRIFT, f"drifts, and hardly moves the score: {', '.join(drifted)}"
    return Trigger.SCHEDULE, "no alert is open"


def _important(drifted: tuple[str, ...], importance: Mapping[str, float]) -> list[str]:
    # a feature that is unknown to the model cannot be called unimportant
    return [feature for feature in drifted if importance.get(feature, 1.0) > IMPORTANT]


def _is(alert: Alert, names: Collection[AlertName]) -> bool:
    return alert.labels.get("alertname") in names


def _named(alert: Alert) -> str:
    subject = ", ".join(features_of(alert))
    return f"{alert.labels['alertname']}{' of ' + subject if subject else ''}"
