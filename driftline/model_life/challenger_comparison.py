"""Is the challenger better? Both models' predictions, and a decision that does not depend on the time of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drift_worker.performance.classification_metrics import money_of
from driftline import terminal
from driftline.errors import CommandError
from driftline.model_life.model_comparison import Comparison, Metric, compare, deciding
from driftline.paired_predictions import Coverage, Labelled, ModelName, Paired
from driftline.settings import CommandSettings
from driftline.since import SKEW_MS
from kafka_runtime.topic_reader import READ_ERRORS, reader
from schemas.bundle import Business


@dataclass(frozen=True, slots=True)
class Findings:
    """mode: `shadow` or `split`. customers: settled so far, of the smaller side. until_ms: only earlier events decide.

    value: money per customer, if the bundle has the worth of outcomes. comparison, value: None before that.
    """

    mode: str
    champion: ModelName
    challenger: ModelName
    coverage: Coverage | None
    customers: int
    needed: int
    until_ms: int | None
    comparison: Comparison | None
    value: Comparison | None


def decide(
    found: Paired,
    champion: ModelName,
    challenger: ModelName,
    mode: str,
    metric: Metric,
    horizon: int,
    needed: int,
    business: Business | None,
    *,
    margin: float,
    confidence: float,
) -> Findings:
    """Return the decision by the rule of driftline/model_life/model_comparison.py, the same at any time of the run."""
    sides = (found.of_both if mode == "shadow" else found.of_each)(champion, challenger, horizon)
    coverage = found.coverage(champion, challenger) if mode == "shadow" else None
    counts, times = [], []
    for side in sides:
        _, labelled, until_ms = deciding(side.time_ms, side.rows.customer, needed)
        counts.append(labelled)
        times.append(until_ms)
    known = [at for at in times if at is not None]
    if len(known) < len(sides):
        return Findings(mode, champion, challenger, coverage, min(counts), needed, None, None, None)
    until = max(known)
    kept = [_deciding(side, needed, until, exact=mode == "shadow").rows for side in sides]
    money = money_of(business)
    answers = {
        name: compare(name, *kept, margin=margin if name == metric else 0.0, confidence=confidence, money=money)
        for name in ((metric, "business_value") if money is not None else (metric,))
    }
    value = answers.get("business_value")
    return Findings(mode, champion, challenger, coverage, min(counts), needed, until, answers[metric], value)


def _deciding(side: Labelled, needed: int, until: int, *, exact: bool) -> Labelled:
    """Return the deciding customers: the first n; in a split, of the larger side, all known when the smaller had n."""
    return side.take(deciding(side.time_ms, side.rows.customer, needed)[0] if exact else side.time_ms <= until)


async def read_pairs(settings: CommandSettings, labels: Path | None, since_ms: int, now_ms: int) -> Paired:
    """Read all three topics, in the order in which predictions of customers without a label can be dropped at once."""
    found = Paired(settings.topic_events, now_ms, SKEW_MS)
    try:
        if labels is not None:
            with labels.open("rb") as lines:
                for line in lines:
                    found.label(line.strip())
        async with reader(settings, blocked=terminal.note_blocked) as reading:
            if labels is None:
                async for record in reading.scan(settings.topic_labels):
                    found.label(record.value)
            async for record in reading.scan(settings.topic_shadow, since_ms):
                found.shadow(record.value, record.headers)
            async for record in reading.scan(settings.topic_predictions, since_ms):
                found.prediction(record.value, record.headers)
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return found


def models(
    found: Paired, champion: ModelName | None, challenger: ModelName | None
) -> tuple[ModelName, ModelName, str] | None:
    """Return the models to compare, and how; None without a challenger so far."""
    answering, shadowing = found.models("predictions"), found.models("shadow")
    if challenger is not None and challenger not in shadowing:
        if challenger not in answering:
            return None
        others = [name for name in answering if name != challenger]
        if champion is None and not others:
            return None
        return champion or others[0], challenger, "split"
    if not shadowing and len({name for name, _ in answering}) > 1:
        names = ", ".join("@".join(name) for name in answering)
        raise CommandError(f"no shadow predictions, and several models answer: {names}: name the --challenger")
    if not shadowing or not answering:
        return None
    return champion or answering[0], challenger or shadowing[0], "shadow"
