"""The drift worker's records of each model, from the topics of measurements and alerts."""

from __future__ import annotations

from collections.abc import Mapping

from drift_worker.page.history import History
from driftline import terminal
from driftline.errors import CommandError
from driftline.settings import CommandSettings
from kafka_runtime.topic_reader import READ_ERRORS, reader
from schemas.alert import decode_alert
from schemas.measurement import Measurement, decode_measurement, is_window


async def read_histories(settings: CommandSettings, start_ms: int) -> tuple[Mapping[str, History], int]:
    """Return the history of every model, and the number of skipped records."""
    found = Collected(start_ms)
    try:
        async with reader(settings, blocked=terminal.note_blocked) as reading:
            async for record in reading.scan(settings.topic_measurements, start_ms):
                found.measurement(record.key, record.value)
            # an alert that is still open may have begun before: the topic is compacted and small
            async for record in reading.scan(settings.topic_alerts):
                found.alert(record.value)
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    return found.histories, found.passed_over


async def read_newest(settings: CommandSettings, model: str, start_ms: int) -> Mapping[str, Measurement]:
    """Return the newest measurement of each window length of a model by its name, the longest last.

    Empty without any, and where no drift worker has made the topic.
    """
    found = Collected(start_ms)
    try:
        async with reader(settings, blocked=terminal.note_blocked) as reading:
            if await reading.written(settings.topic_measurements):
                async for record in reading.scan(settings.topic_measurements, start_ms):
                    found.measurement(record.key, record.value)
    except READ_ERRORS as error:
        raise CommandError(f"Kafka at {settings.kafka_bootstrap_servers}: {error!r}", 1) from None
    history = found.histories.get(model)
    return {} if history is None else history.story().newest


def newest_shares(newest: Mapping[str, Measurement]) -> tuple[Measurement, dict[str, dict[str, float]]] | None:
    """Return the longest window's newest measurement, and by feature its shares `missing` and `unseen`.

    None without any.
    """
    if not newest:
        return None
    measurement = list(newest.values())[-1]
    return measurement, {
        name: {"missing": one.missing_ratio or 0.0, "unseen": one.unseen_ratio or 0.0}
        for name, one in measurement.features.items()
    }


def share_lines(newest: Mapping[str, Measurement]) -> list[str]:
    """Return `newest_shares` as lines; none without any."""
    from driftline.model_life.data_checks import remarks

    found = newest_shares(newest)
    if found is None:
        return []
    measurement, shares = found
    return [f"{line} of the newest {measurement.window.length} window" for line in remarks(shares)]


class Collected:
    """Records of both topics → a history for each model."""

    def __init__(self, start_ms: int) -> None:
        """Start. Alerts that were resolved before `start_ms` are left out."""
        self._start_ms = start_ms
        self.histories: dict[str, History] = {}
        self.passed_over = 0

    def measurement(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the measurements' topic; the counts among them are internal to the drift worker."""
        if value is None or not is_window(key):
            return
        try:
            measurement = decode_measurement(value)
            self.histories.setdefault(measurement.model, History(measurement.model, self._start_ms)).measured(
                measurement
            )
        except ValueError:
            self.passed_over += 1

    def alert(self, value: bytes | None) -> None:
        """Take in a record of the alerts' topic."""
        if value is None:
            return
        try:
            alert = decode_alert(value)
            history = self.histories.get(alert.labels.get("model", ""))
            if history is not None:
                history.announced(alert)
        except ValueError:
            self.passed_over += 1
