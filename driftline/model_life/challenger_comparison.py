"""Is the challenger better? Both models' predictions, and a decision that does not depend on the time of the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from drift_worker.performance.money import money_of
from driftline import terminal
from driftline.errors import CommandError
from driftline.model_life.model_comparison import METRICS, Comparison, Metric, compare, deciding
from driftline.paired_predictions import Coverage, Labelled, ModelName, Paired
from driftline.settings import CommandSettings
from driftline.since import SKEW_MS
from kafka_runtime.topic_reader import READ_ERRORS, Reader, reader
from schemas.bundle.manifest import AnyBusiness
from schemas.prediction import AnyPrediction, decode_any
from schemas.task import TaskName

# Offsets at each partition's end among which the last prediction is looked for; the end of a transaction is one, too.
NEWEST = 500


@dataclass(frozen=True, slots=True)
class Findings:
    """mode: `shadow` or `split`. customers: settled so far, of the smaller side. until_ms: only earlier events decide.

    value: money per customer, if the bundle has the worth of outcomes. comparison, value: None before that. also: of
    models that are not binary, the other metrics, which do not decide.
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
    also: tuple[Comparison, ...] = ()


def decide(
    found: Paired,
    champion: ModelName,
    challenger: ModelName,
    mode: str,
    metric: Metric,
    horizon: int,
    needed: int,
    business: AnyBusiness | None,
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
    money = money_of(business, found.classes)
    others: tuple[Metric, ...] = ()
    if found.task != "binary":
        others = tuple(name for name in METRICS[found.task] if name not in {metric, "business_value"})
    in_money: tuple[Metric, ...] = () if money is None else ("business_value",)
    answers = {
        name: compare(name, *kept, margin=margin if name == metric else 0.0, confidence=confidence, money=money)
        for name in dict.fromkeys((metric, *others, *in_money))
    }
    value, also = answers.get("business_value"), tuple(answers[name] for name in others)
    return Findings(mode, champion, challenger, coverage, min(counts), needed, until, answers[metric], value, also)


def _deciding(side: Labelled, needed: int, until: int, *, exact: bool) -> Labelled:
    """Return the deciding customers: the first n; in a split, of the larger side, all known when the smaller had n."""
    return side.take(deciding(side.time_ms, side.rows.customer, needed)[0] if exact else side.time_ms <= until)


async def read_pairs(
    settings: CommandSettings,
    labels: Path | None,
    since_ms: int,
    now_ms: int,
    champion: ModelName | None = None,
    classes: Sequence[str] = (),
) -> Paired:
    """Read all three topics, in the order in which predictions of customers without a label can be dropped at once.

    champion: whose task is that of the comparison; None: the model that answered last. classes: get the first codes.
    """
    try:
        async with reader(settings, blocked=terminal.note_blocked) as reading:
            task = await task_on(reading, settings.topic_predictions, since_ms, champion)
            found = Paired(settings.topic_events, now_ms, SKEW_MS, task=task, classes=classes)
            if labels is not None:
                with labels.open("rb") as lines:
                    for line in lines:
                        found.label(line.strip())
            else:
                async for record in reading.scan(settings.topic_labels):
                    found.label(record.value)
            async for record in reading.scan(settings.topic_shadow, since_ms):
                found.shadow(record.value, record.headers)
            async for record in reading.scan(settings.topic_predictions, since_ms):
                found.prediction(record.value, record.headers)
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return found


async def task_on(reading: Reader, topic: str, since_ms: int, champion: ModelName | None) -> TaskName:
    """Return the task of the champion, or of the model that answered last; without predictions binary."""
    if champion is not None:
        async with aclosing(reading.scan(topic, since_ms)) as records:
            async for record in records:
                one = _prediction(record.value)
                if one is not None and (one.model.name, one.model.version) == champion:
                    return one.task
        return "binary"
    newest: AnyPrediction | None = None
    for partition in await reading.partitions(topic):
        for record in await reading.tail(partition, NEWEST):
            one = _prediction(record.value)
            if one is not None and (newest is None or one.scored_at > newest.scored_at):
                newest = one
    return "binary" if newest is None else newest.task


def _prediction(value: bytes | None) -> AnyPrediction | None:
    try:
        return decode_any(value or b"")
    except ValueError:
        return None


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
