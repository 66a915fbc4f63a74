"""The text and the numbers of an alert: the statistics, their limits, and a sentence of explanation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from drift_worker.alerting.limits import (
    MISSING_CRITICAL,
    MISSING_WARNING,
    OWN_LIMITS,
    RELATION_LIMITS,
    UNSEEN_CRITICAL,
    UNSEEN_WARNING,
    Policy,
)
from drift_worker.statistics.catalogue import CATALOGUE
from schemas.alert import RELATIONAL, AlertName
from schemas.measurement import WEEK, FeatureMeasurement, Measurement, Relation

_WHAT_TO_DO = {
    AlertName.FEATURE_DRIFT: "Find out what changed upstream or among customers; if it is lasting, retrain.",
    AlertName.PREDICTION_DRIFT: "See which features moved with the score; if none did, check the model that scores.",
    AlertName.MISSING_VALUES: "Ask the producer of this feature why it is missing.",
    AlertName.UNSEEN_CATEGORIES: "Look at the new categories under /drift; the model was not trained on them.",
    AlertName.DATA_QUALITY: "The data broke rather than drifted: ask the producer of this feature.",
    AlertName.REFERENCE_MISMATCH: (
        "It differs from the first window on, so this is not drift: if these are the customers you score, make a "
        "reference of them with `driftline rebaseline`; if not, find out whom the model was trained on."
    ),
    AlertName.RELATION_DRIFT: (
        "The features go together in another way: look for a join, a mapping or a model that changed; each feature "
        "alone looks as before."
    ),
    AlertName.SEGMENT_DRIFT: "Ask who feeds this category what changed there; elsewhere the number is as before.",
    AlertName.NO_DATA: "Check that events arrive and that their event time is right.",
    AlertName.CLASSIC: "The textbook's rule is set; it does not test evidence: look at the window before acting.",
}
# Relations that an alert lists.
MOST_RELATIONS = 10
_TEST_OF = {AlertName.MISSING_VALUES: "missing", AlertName.UNSEEN_CATEGORIES: "unseen"}


def subject_of(measurement: Measurement, alertname: AlertName, feature: str | None) -> FeatureMeasurement | None:
    """Return the measurement of a feature, or of the score if it is None; None for the window as a whole."""
    if alertname is AlertName.NO_DATA or alertname in RELATIONAL:
        return None
    return measurement.score if feature is None else measurement.features.get(feature)


def limits(policy: Policy, alertname: AlertName, feature: str | None) -> tuple[float, float] | None:
    """Return (warning, critical) of the values that this kind of alert compares; None where it compares none."""
    if alertname is AlertName.MISSING_VALUES:
        return MISSING_WARNING, MISSING_CRITICAL
    if alertname is AlertName.UNSEEN_CATEGORIES:
        return UNSEEN_WARNING, UNSEEN_CRITICAL
    if alertname in {AlertName.DATA_QUALITY, AlertName.NO_DATA}:
        return None
    if alertname in RELATIONAL:
        return RELATION_LIMITS["segment" if alertname is AlertName.SEGMENT_DRIFT else "correlation"]
    return policy.limits_of(feature)


def evidence(
    policy: Policy, measurement: Measurement, alertname: AlertName, feature: str | None, members: list[str]
) -> dict[str, Any]:
    """Return the alert's `evidence` with the numbers of `feature`; `members`: of a group, the strongest first."""
    subject = subject_of(measurement, alertname, feature)
    known = subject if subject is not None else FeatureMeasurement(kind="none", events=measurement.sample.events)
    compared = limits(policy, alertname, feature)
    score = measurement.score
    return {
        "model_version": measurement.model_version,
        "reference_sha256": measurement.reference_sha256,
        "statistic": {
            **_statistics(known),
            "log10_p": known.tests.get(_TEST_OF[alertname]) if alertname in _TEST_OF else known.log10_p,
        },
        "limits": {
            "effect_warning": None if compared is None else compared[0],
            "effect_critical": None if compared is None else compared[1],
            "q": None if measurement.level is None else measurement.level.q,
        },
        "null_999": {"psi": known.null_999},
        "sample": {
            "events": known.events,
            "effective": known.effective,
            "reference": known.reference,
            "missing_ratio": known.missing_ratio,
            "unseen_ratio": known.unseen_ratio,
            "late": measurement.sample.late,
            "complete": measurement.complete,
        },
        "window": msgspec.to_builtins(measurement.window),
        "span": None if measurement.span is None else msgspec.to_builtins(measurement.span),
        "bins": None if known.bins is None else msgspec.to_builtins(known.bins),
        "score_shift": None
        if score is None or score.mean is None
        else {"probability_psi": score.psi, "mean_before": score.reference_mean, "mean_now": score.mean},
        "offsets": {topic: {p: list(r) for p, r in ranges.items()} for topic, ranges in measurement.offsets.items()},
        "features": [_member(measurement, name) for name in members] or None,
        "relations": [msgspec.to_builtins(one) for one in relations_of(measurement, alertname)[:MOST_RELATIONS]]
        or None,
    }


def relations_of(measurement: Measurement, alertname: AlertName) -> list[Relation]:
    """Return the relations that an alert is about, the strongest first; none for any other alert."""
    relations = measurement.relations
    if relations is None:
        return []
    return [relations.moved[at] for at in relations.found.get(alertname.value, [])]


def rank(measurement: Measurement, members: list[str]) -> list[str]:
    """Return `members`, the one that moves the score most first; those without a number last."""

    def moved(name: str) -> tuple[float, float]:
        subject = measurement.features.get(name)
        if subject is None:
            return 0.0, 0.0
        return -abs(subject.score_shift or 0.0), -(subject.effect or 0.0)

    return sorted(members, key=moved)


def summary(
    policy: Policy,
    measurement: Measurement,
    alertname: AlertName,
    feature: str | None,
    members: list[str],
    *,
    resolved: bool,
) -> str:
    """Return one line: what moved, by how much, and the limit."""
    if members:
        shown = ", ".join(f"{name} ({_size(measurement.features.get(name))})" for name in members[:3])
        more = f" and {len(members) - 3} more" if len(members) > 3 else ""
        moved = f"{len(members)} features {_verb(alertname, resolved=resolved, many=True)}: {shown}{more}"
        return moved + _broken(measurement, members)
    if alertname in RELATIONAL:
        return _related(measurement, alertname)
    subject = subject_of(measurement, alertname, feature)
    if subject is None:
        what = "enough events again" if resolved else "not enough events"
        return f"{what} in {measurement.window.length}: {measurement.sample.events}"
    warning = (limits(policy, alertname, feature) or (0.0, 0.0))[0]
    if alertname is AlertName.MISSING_VALUES:
        now, before = subject.missing_ratio or 0.0, subject.reference_missing_ratio or 0.0
        rate = f"{feature}: {now:.1%} missing, {before:.1%} in the reference (limit ±{warning:.0%})"
        return rate + _broken(measurement, [feature])
    if alertname is AlertName.UNSEEN_CATEGORIES:
        now, before = subject.unseen_ratio or 0.0, subject.reference_unseen_ratio or 0.0
        rate = f"{feature}: {now:.1%} in unseen categories, {before:.1%} expected (limit +{warning:.0%})"
        return rate + _broken(measurement, [feature])
    if alertname is AlertName.DATA_QUALITY:
        what = (subject.quality or "back to normal").replace("_", " ")
        return f"{feature}: {what} {subject.quality_detail or ''}".rstrip()
    verb = _verb(alertname, resolved=resolved, many=False)
    return f"{feature or 'the score'} {verb}: {_size(subject)} (limit {warning:.2f})" + _broken(measurement, [feature])


def describe(measurement: Measurement, alertname: AlertName, feature: str | None, since: str, *, resolved: bool) -> str:
    """Return a few sentences: the window, since when, the score, what to do."""
    window = measurement.window
    subject = subject_of(measurement, alertname, feature)
    parts = [f"Window of {window.length} ending {window.end}, since {since}."]
    if (span := measurement.span) is not None:
        windows = f"{span.windows} windows with {span.events:,} events"
        parts.append(f"It has too few events alone: judged from {span.start} on, {windows}.")
    if subject is not None and subject.effective is not None:
        parts.append(f"{subject.events} events that count as {subject.effective:.0f} independent ones.")
        if subject.against == WEEK:
            parts.append("Compared with the same hours of past weeks.")
    score = measurement.score
    if score is not None and score.mean is not None and score.reference_mean is not None:
        before = "in past weeks" if score.against == WEEK else "in the reference"
        parts.append(f"Mean score {score.reference_mean:.3f} {before}, {score.mean:.3f} now.")
    broken = subject is not None and subject.quality is not None and subject.kind != "score"
    to_do = _WHAT_TO_DO[AlertName.DATA_QUALITY if broken else alertname]
    parts.append("Back below the limit for three windows." if resolved else to_do)
    return " ".join(parts)


def _related(measurement: Measurement, alertname: AlertName) -> str:
    """Return the strongest relation that moved, in words, and how many more did."""
    found = relations_of(measurement, alertname)
    if not found:
        what = "segments" if alertname is AlertName.SEGMENT_DRIFT else "relations"
        return f"the {what} of the features are back"
    first = found[0]
    limit = RELATION_LIMITS[first.kind][0]
    if first.kind == "score":
        text = f"the score follows the features differently: correlation {first.before:.2f} → {first.now:.2f}"
    elif first.kind == "segment":
        number, named = first.features
        where = "other categories" if first.categories[0] == "other" else first.categories[0]
        text = f"{number} moved within {named} = {where}: {first.effect:+.2f} sd more than elsewhere"
    elif first.kind == "association":
        a, b = (f"{name} = {of}" for name, of in zip(first.features, first.categories, strict=True))
        text = f"{a} and {b} go together differently: association {first.before:.2f} → {first.now:.2f}"
    else:
        a, b = first.features
        text = f"{a} and {b} go together differently: correlation {first.before:.2f} → {first.now:.2f}"
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{text} (limit ±{limit:.2f}){more}"


def _broken(measurement: Measurement, features: Sequence[str | None]) -> str:
    """Name the features whose data broke in the middle of a movement that another alert announced."""
    found = [
        f"{name} is {subject.quality.replace('_', ' ')} {subject.quality_detail or ''}".rstrip()
        for name in features
        if name is not None and (subject := measurement.features.get(name)) is not None and subject.quality
    ]
    return f"; broken: {', '.join(found)}" if found else ""


def _verb(alertname: AlertName, *, resolved: bool, many: bool) -> str:
    if alertname is AlertName.REFERENCE_MISMATCH:
        fits = "fit the reference now" if many else "fits the reference now"
        return fits if resolved else "never fitted the reference"
    if resolved:
        return "are back" if many else "is back"
    return "moved together" if many else "moved"


def _size(subject: FeatureMeasurement | None) -> str:
    if subject is None or subject.psi is None:
        return "no number in this window"
    values = _statistics(subject)
    common, own = [], []
    for statistic in CATALOGUE:
        value = values[statistic.name]
        if value is None or statistic.phrase is None:
            continue
        if not statistic.own_limits:
            common.append(f"{statistic.phrase} {value:.2f}")
        elif value >= (limit := OWN_LIMITS[statistic.name][0]):
            own.append(f"{value:.1%} {statistic.phrase} (limit {limit:.0%})")
    return ", ".join([*own, *common])


def _statistics(subject: FeatureMeasurement) -> dict[str, float | None]:
    """Return every statistic of the catalogue by name; None where it is not known or does not apply."""
    return {statistic.name: getattr(subject, statistic.name) for statistic in CATALOGUE}


def _member(measurement: Measurement, feature: str) -> dict[str, Any]:
    subject = measurement.features.get(feature)
    if subject is None:
        return {"feature": feature}
    return {
        "feature": feature,
        **_statistics(subject),
        "log10_p": subject.log10_p,
        "score_shift": subject.score_shift,
    }
