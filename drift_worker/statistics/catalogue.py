"""Every statistic of a distribution, one row each: what it is of, what gives evidence for it, and how it is shown.

Metrics, findings, messages, the page and the dashboards read these rows. A new statistic needs four things: a module
that computes it, its function in `measure`, a row here, and a member of `schemas.measurement.FeatureMeasurement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NUMBERS = frozenset({"numeric", "score"})
CATEGORIES = frozenset({"categorical", "boolean"})
# The tests of a distribution, by kind. Every one of them shares the level of a window, whether it was made or not.
TESTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(sorted(NUMBERS), ("psi", "ks", "out_of_range", "spike")),
    **dict.fromkeys(sorted(CATEGORIES), ("chi2",)),
}
# The tests whose p-value is exact for any reference; the self-check of a bundle simulates all others.
EXACT = frozenset({"out_of_range", "spike"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One statistic."""

    #: The member of a measured feature and of an alert's evidence, and the end of its series' name.
    name: str
    #: What it is called on the page.
    label: str
    #: The kinds of features that have it.
    kinds: frozenset[str]
    #: The tests that give evidence for it as an effect; the first that was made counts. Empty: it never alerts.
    evidence: tuple[str, ...] = ()
    #: The member with the value that chance alone exceeds in one window of a thousand, if there is one.
    null: str | None = None
    #: The help text of its series; None: it has no series.
    help: str | None = None
    #: The title and the description of its panel on the data dashboard; None: it has no panel.
    panel: tuple[str, str] | None = None
    #: The words before its number in a message; None: it is in no message.
    phrase: str | None = None
    #: Whether it is a share, which the page shows in per cent.
    share: bool = False
    #: Whether the card of a feature draws it as a bar.
    charted: bool = False
    #: Whether it has limits apart from those of the effect (`alerting.policy.OWN_LIMITS`).
    own_limits: bool = False


CATALOGUE = (
    Statistic(
        name="psi",
        label="PSI",
        kinds=NUMBERS | CATEGORIES,
        null="null_999",
        help="Population stability index on cells that do not collapse",
        panel=(
            "PSI and what chance alone gives",
            (
                "The dashed line is the PSI that one window in a thousand exceeds without drift, of the feature where "
                "it is highest."
            ),
        ),
        phrase="PSI",
        charted=True,
    ),
    Statistic(
        name="psi_corrected",
        label="PSI*",
        kinds=NUMBERS | CATEGORIES,
        evidence=("psi", "chi2"),
        help="PSI less its expectation without drift, at least 0",
        panel=("PSI* and its limits", "PSI less its expectation without drift."),
        charted=True,
    ),
    Statistic(
        name="ks",
        label="KS D",
        kinds=NUMBERS,
        evidence=("ks",),
        help="Kolmogorov-Smirnov distance",
        panel=(
            "KS distance and its limits",
            "Largest distance between the cumulative distributions; numeric features and the score.",
        ),
        phrase="KS D",
        charted=True,
    ),
    Statistic(
        name="linf",
        label="L∞",
        kinds=CATEGORIES,
        evidence=("chi2",),
        phrase="largest share moved by",
        share=True,
        charted=True,
    ),
    Statistic(
        name="out_of_range_ratio",
        label="outside the reference's range",
        kinds=NUMBERS,
        evidence=("out_of_range",),
        help="Share of values outside the reference's range",
        panel=(
            "Values outside the reference's range",
            "Share of values below the smallest or above the largest one of the reference; an alert from 1 % on.",
        ),
        phrase="outside the reference's range",
        share=True,
        own_limits=True,
    ),
    Statistic(
        name="spike_ratio",
        label="gained by one rare value",
        kinds=NUMBERS,
        evidence=("spike",),
        help="Share that one value gained which at most 1 % of the reference has",
        panel=(
            "One value that spread",
            "The most that a single value gained which is rare in the reference: a sensor that sticks. From 3 % on.",
        ),
        phrase="gained by one rare value",
        share=True,
        own_limits=True,
    ),
    Statistic(
        name="psi_textbook",
        label="PSI, textbook",
        kinds=NUMBERS,
        help="Population stability index of the textbook",
        panel=(
            "The textbook's PSI",
            "With ten quantile bins and no correction, for comparison with other tools.",
        ),
    ),
    Statistic(
        name="wasserstein",
        label="Wasserstein / sd",
        kinds=NUMBERS,
        help="Wasserstein distance in standard deviations of the reference",
        panel=(
            "Wasserstein distance",
            "How far values have moved on average, in standard deviations of the reference. It never alerts.",
        ),
    ),
)
# What can raise an alert; and those of them that are compared with the limits of the effect.
EFFECTS = tuple(statistic for statistic in CATALOGUE if statistic.evidence)
COMMON_EFFECTS = tuple(statistic for statistic in EFFECTS if not statistic.own_limits)
