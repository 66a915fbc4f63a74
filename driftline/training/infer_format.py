"""How a file writes its numbers and its missing values, found from its cells. Every finding is a guess for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from driftline.training.dataset import NUMBER_FORMATS, is_missing_mark, parse_boolean, parse_number
from schemas.bundle.inputs import DataFormat

# A column supports a number format if nine of ten of its cells are numbers in that format.
NUMERIC_SHARE = 0.9
# A mark that is not one of the usual ones: two at most in a column, beside four times as many numbers.
OWN_MARKS = 2
OWN_MARKS_SHARE = 0.8
DISTINCT_NUMBERS = 10
# Different texts of a column, of each sort, by which ways of writing numbers are compared.
SAMPLE = 5_000


@dataclass(frozen=True, slots=True)
class _Texts:
    """The different texts of one column, with how often each occurs."""

    numbers: Counter[str]
    others: Counter[str]

    @classmethod
    def of(cls, found: Counter[str], form: DataFormat) -> _Texts:
        """Sort the texts by whether they are numbers."""
        numbers, others = Counter[str](), Counter[str]()
        for text, count in found.items():
            (others if parse_number(text, form) is None else numbers)[text] = count
        return cls(numbers, others)

    def sample(self) -> dict[str, int]:
        """Return the first texts of either sort that are no marks."""
        first = [*islice(self.numbers.items(), SAMPLE), *islice(self.others.items(), SAMPLE)]
        return {text: count for text, count in first if not is_missing_mark(text)}


@dataclass(frozen=True, slots=True)
class FormatGuess:
    """The format, and what led to it."""

    form: DataFormat
    #: A text of the file and the number that it is read as, where the decimal mark or the groups are guessed.
    example: tuple[str, float] | None
    #: By column, how often each of the missing marks is in it.
    marks: dict[str, Counter[str]]


def guess_format(columns: Mapping[str, Sequence[object]], target: str, form: DataFormat, separator: str) -> FormatGuess:
    """Return the format with which most columns are numbers, and the marks that are in the way of more.

    `columns` by name as they were read with `form`; a text that is one of the two labels is no mark.
    """
    texts = {
        name: Counter(cell.strip() for cell in cells if isinstance(cell, str) and cell.strip())
        for name, cells in columns.items()
    }
    features = [found for name, found in texts.items() if name != target]
    sorted_texts = [_Texts.of(found, form) for found in features]
    numbers = _number_format(sorted_texts, form, separator)
    # the target counts where the features leave it open: an amount may be the only number with a decimal mark
    wider = _number_format([*sorted_texts, _Texts.of(texts[target], form)], form, separator)
    if all(parse_number(text, wider) == parse_number(text, numbers) for found in features for text in found):
        numbers = wider
    if numbers != form:
        sorted_texts = [_Texts.of(found, numbers) for found in features]
    labels = texts[target]
    meant = set() if len({text for text in labels if not is_missing_mark(text)}) >= 2 else set(labels)
    marks = {mark for found in sorted_texts for mark in _marks(found)}
    marks |= {text for text in labels if len(labels) > 2 and is_missing_mark(text)}
    marks -= meant
    seen = {
        name: Counter({mark: found[mark] for mark in sorted(marks) if found[mark]}) for name, found in texts.items()
    }
    guessed = numbers.model_copy(update={"missing": tuple(sorted({*form.missing, *marks}))})
    return FormatGuess(guessed, _example([*texts.values()], form, guessed), {n: c for n, c in seen.items() if c})


def _number_format(columns: Sequence[_Texts], form: DataFormat, separator: str) -> DataFormat:
    others = {text for found in columns for text in [*found.others][:SAMPLE] if not is_missing_mark(text)}
    formats = [form.model_copy(update={"decimal": d, "thousands": t}) for d, t in NUMBER_FORMATS]
    if not any(parse_number(text, tried) is not None for tried in formats[1:] for text in others):
        return form
    samples = [found.sample() for found in columns]
    best, best_score = form, (0, 0)
    for tried in formats:
        numeric = cells = 0
        for known in samples:
            parsed = sum(count for text, count in known.items() if parse_number(text, tried) is not None)
            if known and parsed >= NUMERIC_SHARE * sum(known.values()):
                numeric, cells = numeric + 1, cells + parsed
        # "1,234" is a number with a decimal comma, and one with groups: which is likelier depends on the separator
        preferred = separator == "," and (tried.decimal, tried.thousands) == (".", ",") and best.decimal == ","
        if (numeric, cells) > best_score or (preferred and (numeric, cells) == best_score):
            best, best_score = tried, (numeric, cells)
    return best


def _marks(found: _Texts) -> set[str]:
    """Return the texts of one column that are in the way of its being numeric or boolean."""
    others, parsed, total = found.others, found.numbers.total(), found.numbers.total() + found.others.total()
    usual = all(is_missing_mark(text) for text in others)
    if others and parsed >= 0.5 * total:
        few = len(others) <= OWN_MARKS and parsed >= OWN_MARKS_SHARE * total and len(found.numbers) > DISTINCT_NUMBERS
        if usual or (few and not any(character.isdigit() for text in others for character in text)):
            return set(others)
    if len(found.numbers) > 2:
        return set()
    texts = [*found.numbers, *others]
    not_boolean = [text for text in texts if parse_boolean(text) is None]
    booleans = {parse_boolean(text) for text in texts} - {None}
    if len(booleans) == 2 and not_boolean and all(is_missing_mark(text) for text in not_boolean):
        return set(not_boolean)
    return set()


def _example(columns: Sequence[Counter[str]], form: DataFormat, guessed: DataFormat) -> tuple[str, float] | None:
    """Return the first text that is a number by the guess alone, or another one than without it."""
    if (form.decimal, form.thousands) == (guessed.decimal, guessed.thousands):
        return None
    for found in columns:
        for text in found:
            number = parse_number(text, guessed)
            if number is not None and number != parse_number(text, form):
                return text, float(number)
    return None
