"""The subjects of a page: every feature and the score, each in the window with the most information."""

from __future__ import annotations

from dataclasses import dataclass, replace

from drift_worker.page.history import Story, compared, subjects
from schemas.measurement import FeatureMeasurement, Measurement

SCORE = "the score"


@dataclass(frozen=True, slots=True)
class Subject:
    """A feature (or the score: name None) in the shortest window in which it is known. place: its rank, from 1."""

    name: str | None
    measurement: Measurement
    found: FeatureMeasurement
    place: int = 0

    @property
    def title(self) -> str:
        """Return the feature's name, or that of the score."""
        return SCORE if self.name is None else self.name

    @property
    def value(self) -> float | None:
        """Return the value that is compared with the limits."""
        return compared(self.measurement, self.found)

    @property
    def anchor(self) -> str:
        """Return the id of the subject's part of the page."""
        return f"f{self.place}"


def score(story: Story) -> Subject | None:
    """Return the score, if a window has it."""
    return _subject(story, None)


def ranked(story: Story) -> list[Subject]:
    """Return every feature, the largest effect first, those without a number last."""
    names = dict.fromkeys(name for m in story.newest.values() for name in m.features)
    found = [one for name in names if (one := _subject(story, name)) is not None]
    found.sort(key=lambda one: -1.0 if one.value is None else one.value, reverse=True)
    return [replace(one, place=place) for place, one in enumerate(found, 1)]


def _subject(story: Story, name: str | None) -> Subject | None:
    found = [Subject(name, m, s) for m in story.newest.values() if (s := subjects(m).get(name)) is not None]
    return next((one for one in found if one.value is not None), found[0] if found else None)
