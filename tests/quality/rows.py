"""What the alerts must be like, row by row of docs/quality.md: each function measures one, on made-up streams.

`ALL` has the full strength, which `make quality` measures at; the tests of every run ask for less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from quality import natural, together
from quality.cause import first_is_the_cause
from quality.cost import Cost
from quality.shares import Share, percent
from quality.stream import (
    FEATURES,
    LENGTHS,
    MINUTE_MS,
    NUMERIC,
    POLICY,
    SD,
    Drift,
    Events,
    Seen,
    Stream,
    category_loses,
    damage,
    draw,
    everything,
    missing,
    shift,
    unseen,
)
from quality.trap import TRAPS
from quality.week import Weeks
from scipy.stats import chi2

from schemas.alert import Alert
from schemas.task import TaskName

LATENESS_MIN = 0.5  # DRIFT_ALLOWED_LATENESS: a window is looked at so long after its end
FIRST = FEATURES[0].name
# Events in a quarter hour of a small stream, whose windows are judged together with those before them.
SMALL = 100


@dataclass(frozen=True)
class Row:
    """One line of the table. reached: None if it was not measured; timed: the machine's load takes part in it."""

    letter: str
    what: str
    bar: str
    measured: str
    reached: bool | None
    timed: bool = False

    def __str__(self) -> str:
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[self.reached]
        return f"({self.letter}) {self.what}: {self.measured}; bar: {self.bar} {verdict}".rstrip()


def _none(letter: str, what: str, seen: Sequence[Seen], *, quiet: bool = True) -> Row:
    """No page in any window; and as the gates alone could bring that about, no evidence beyond what the rule allows.

    Benjamini and Hochberg's q is at most 5 %: so often may there be a significant test in a window without drift. More
    is measured only if the whole interval lies above it. quiet: false where something has moved that does not count.
    """
    pages, windows = sum(each.pages for each in seen), sum(each.windows for each in seen)
    significant = Share(sum(each.significant for each in seen), windows)
    # an episode per feature: there can be more of them than windows
    counted = str(Share(pages, windows)) if pages <= windows else f"{pages:,} in {windows:,} windows"
    measured = f"{counted}; significant in {percent(significant.value)} %"
    if not quiet:
        return Row(letter, what, "0 pages", measured, pages == 0)
    return Row(letter, what, "0 pages; significant in ≤ 5 %", measured, pages == 0 and significant.interval[0] <= 0.05)


def _at_least(letter: str, what: str, bar: float, hits: int, n: int, note: str = "") -> Row:
    return Row(letter, what, f"≥ {100 * bar:.0f} %", f"{Share(hits, n)}{note}", hits / n >= bar)


# -- (a) false episodes


def without_drift(n: int, m: int, length: str, references: int, windows: int) -> Row:
    """(a) Many references, each shared by all its windows, as in production: not one episode.

    A length that a single window decides may spend its share of the budget (24h: 1 in 90 windows). It does so where
    chance alone reaches the limit (D = 0.1: one test in 400, with 500 events and 1,000 rows). The bar stays 0.
    """
    seen = [Stream(1000 * m + 10 * n + seed, n, length).run(windows, m) for seed in range(references)]
    return _none("a", f"episodes per window without drift, n = {n:,}, m = {m:,}, {length}", seen)


def without_gates(references: int, windows: int) -> Row:
    """(a) Evidence and persistence alone, every effect large enough: the budget holds before the gates help."""
    policy = replace(POLICY, effect_warning=1e-9, effect_critical=1.0)
    seen = [Stream(seed, 7000, "15m", policy).run(windows, 500) for seed in range(references)]
    pages, total = sum(each.pages for each in seen), sum(each.windows for each in seen)
    what = "episodes without drift and without the gates, n = 7,000, m = 500, 15m"
    return Row("a", what, "at most 1, the budget of 2,880 windows", f"{pages:,} in {total:,} windows", pages <= 1)


# -- (b) evidence


def evidence(n: int, trials: int, length: str = "15m") -> Row:
    """(b) 0.2 sd at m = 1,000: the rule calls the feature significant, at the level that it uses.

    One window per reference. Windows that share one are not independent. Where the reference lies 0.02 sd off, all of
    its windows have 0.18 or 0.22 sd. A hundred windows of five references count for little more than five.
    """
    hits, levels = 0, []
    for seed in range(trials):
        stream = Stream(seed, n, length)
        events = draw(stream.generator, 1000)
        shift(0.2)(stream.generator, events)
        measured = stream.close(events)
        hits += measured.features[FIRST].significant is True
        levels.append(measured.level.single)
    note = f" at a = {np.median(levels):.1e}"
    return _at_least("b", f"evidence for 0.2 sd in one window, n = {n:,}, m = 1,000, {length}", 0.9, hits, trials, note)


# -- (c) what matters is found


@dataclass(frozen=True)
class Kind:
    """A drift, the alert that is due, and at which severity at least."""

    drift: Drift
    alertname: str
    feature: str
    critical: bool = False


KINDS = {
    "0.3 sd": Kind(shift(0.3), "FeatureDrift", FIRST),
    "0.6 sd": Kind(shift(0.6), "FeatureDrift", FIRST, critical=True),
    "a category loses 15 points": Kind(category_loses(0.15), "FeatureDrift", FEATURES[len(NUMERIC) + 2].name),
    "2 % unseen": Kind(unseen(0.02), "UnseenCategories", FEATURES[len(NUMERIC) + 4].name),
    "20 % missing": Kind(missing(0.2), "MissingValues", FIRST),
}


def found(name: str, trials: int) -> Row:
    """(c) n = 7,000, m = 1,500: announced within three windows, by its name, and at least as severe as it is."""
    kind = KINDS[name]
    hits = 0
    for seed in range(trials):
        stream = Stream(seed, 7000)
        stream.run(3, 1500)  # it was clean before
        said = [alert for alert in stream.run(3, 1500, kind.drift).alerts if _speaks_of(alert, kind)]
        hits += any(not kind.critical or alert.labels["severity"] == "critical" for alert in said)
    how = "fires as critical" if kind.critical else "fires"
    return _at_least("c", f"{name}: {how} within three windows", 0.95, hits, trials)


def _speaks_of(alert: Alert, kind: Kind) -> bool:
    """Features that move at the same window's close share an alert, which lists them."""
    members = {member["feature"] for member in alert.evidence.get("features") or ()}
    return alert.labels["alertname"] == kind.alertname and kind.feature in {alert.labels.get("feature"), *members}


# -- (d) what does not matter


def harmless(references: int, windows: int) -> Row:
    """(d) 0.15 sd in every feature at m = 150,000: hugely significant everywhere, and below every limit."""
    pages = total = 0
    least = len(FEATURES)
    for seed in range(references):
        seen = Stream(seed, 7000, "24h").run(windows, 150_000, everything(0.15))
        least = min(least, *(sum(bool(f.significant) for f in w.features.values()) for w in seen.measurements))
        pages, total = pages + seen.pages, total + seen.windows
    counted = str(Share(pages, total)) if pages <= total else f"{pages:,} in {total:,} windows"
    return Row(
        "d",
        "episodes per window, 0.15 sd in all 25 features at m = 150,000",
        "0 pages",
        f"{counted}; at least {least} of {len(FEATURES)} features significant",
        pages == 0 and least == len(FEATURES),
    )


# -- (e) customers who repeat themselves


def repeated(stream: Stream, customers: int, times: int, drift: float = 0.0, *, identical: bool) -> Events:
    """Customers who send several events each, all the same or all different."""
    if identical:
        few = draw(stream.generator, customers, f"{stream.seen.windows}-")
        events = few.take(np.repeat(np.arange(customers), times))
    else:
        events = draw(stream.generator, customers * times)
        events.customers = [f"{stream.seen.windows}-{i // times}" for i in range(customers * times)]
    shift(drift)(stream.generator, events)
    return events


def identical_repeats(customers: int, times: int, references: int, windows: int) -> Row:
    """(e) The same event many times is one event: no episode."""
    seen = []
    for seed in range(references):
        stream = Stream(seed, 7000)
        for _ in range(windows):
            stream.close(repeated(stream, customers, times, identical=True))
        seen.append(stream.seen)
    return _none("e", f"episodes per window, {customers} customers {times} times alike", seen)


def loud_customer(references: int, windows: int) -> Row:
    """(e) One customer's 300 equal events among 1,500 move every feature, and no alert fires."""
    seen = []
    for seed in range(references):
        stream = Stream(seed, 7000)
        loud = draw(stream.generator, 1, "loud")
        for _ in range(windows):
            stream.close(dominated(stream.generator, loud, 1500, f"{stream.seen.windows}-"))
        seen.append(stream.seen)
    return _none("e", "episodes per window, one customer with 20 % of the events", seen, quiet=False)


def dominated(generator: np.random.Generator, loud: Events, m: int, name: str) -> Events:
    """M events, a fifth of them the same one of one customer."""
    events, its = draw(generator, m, name), m // 5
    for of, one in ((events.numeric, loud.numeric), (events.codes, loud.codes), (events.scores, loud.scores)):
        of[:its] = one[0]
    events.customers = [loud.customers[0]] * its + list(events.customers[its:])
    return events


def independent_repeats(trials: int) -> Row:
    """(e) 0.3 sd in 300 customers × 5 different events is found as in 1,500 customers, within 5 points."""
    hits = {True: 0, False: 0}
    for seed in range(trials):
        for clustered in hits:
            stream = Stream(seed, 7000)
            stream.run(3, 1500)
            before = stream.seen.pages
            for _ in range(3):
                customers, times = (300, 5) if clustered else (1500, 1)
                stream.close(repeated(stream, customers, times, 0.3, identical=False))
            hits[clustered] += stream.seen.pages > before
    return Row(
        "e",
        "0.3 sd found, 300 customers with 5 different events each, beside 1,500 with one",
        "within 5 points",
        f"{Share(hits[True], trials)}, beside {Share(hits[False], trials)}",
        hits[True] >= hits[False] - max(1, 0.05 * trials),
    )


# -- (f) how often, (g) how soon


def messages(trials: int) -> Row:
    """(f) 0.45 sd held for two days of quarter hours: firing and resolved, and at most one more."""
    sent = []
    for seed in range(trials):
        stream = Stream(seed, 7000)
        stream.run(4, 1500)
        stream.run(192, 1500, shift(0.45))
        alerts = stream.run(8, 1500).alerts
        own = [a for a in alerts if a.labels["alertname"] == "FeatureDrift" and a.labels["feature"] in {FIRST, "group"}]
        sent.append(len(own) if own and own[-1].status == "resolved" else 99)
    numbers = ", ".join(f"{number} in {sent.count(number)}" for number in sorted(set(sent)))
    reached = sorted(sent)[len(sent) // 2] == 2 and max(sent) <= 3
    return Row("f", "messages of an episode, 0.45 sd held for two days", "2, at most 3", f"{numbers} episodes", reached)


def one_movement(name: str, trials: int) -> Row:
    """(f) Three hours of one movement, until the day that holds it is over: firing and resolved, and nothing else."""
    sent = []
    for seed in range(trials):
        stream = together.Stream(1000 + seed)
        for quarter in range(natural.DAY + 1):
            stream.quarter(1500, together.MOVEMENTS[name] if 20 <= quarter < 32 else None)
        sent.append([alert.status for alert in stream.engine.alerts])
    numbers = ", ".join(
        f"{number} in {sum(len(one) == number for one in sent)}" for number in sorted({*map(len, sent)})
    )
    reached = all(one == ["firing", "resolved"] for one in sent)
    return Row("f", f"messages of one movement: {name}", "2", f"{numbers} days", reached)


def minutes_to_page(trials: int) -> Row:
    """(g) 0.5 sd from any moment of a quarter hour on: from the onset to the page, lateness included."""
    minutes = []
    for seed in range(trials):
        stream = Stream(seed, 7000)
        stream.run(3, 1500)
        before = len(stream.seen.alerts)
        onset = stream.generator.random()  # how much of the first window passes before the drift begins
        closed = 0
        while len(stream.seen.alerts) == before and closed < 8:
            events = draw(stream.generator, 1500, f"{stream.seen.windows}-")
            events.numeric[int(onset * 1500) if closed == 0 else 0 :, 0] += 0.5 * SD
            stream.close(events)
            closed += 1
        minutes.append((closed - onset) * LENGTHS["15m"] / MINUTE_MS + LATENESS_MIN)
    p50, p90 = np.quantile(minutes, [0.5, 0.9])
    measured = f"p50 {p50:.1f}, p90 {p90:.1f}, at most {max(minutes):.1f} of {trials}"
    what = "minutes from the onset to the page, 0.5 sd, 15m windows"
    return Row("g", what, "p50 ≤ 31, p90 ≤ 36", measured, bool(p50 <= 31 and p90 <= 36))


def critical_at_once(trials: int) -> Row:
    """(g) One standard deviation needs no second window."""
    hits = 0
    for seed in range(trials):
        stream = Stream(seed, 7000)
        stream.run(3, 1500)
        said = [alert for alert in stream.run(1, 1500, shift(1.0)).alerts if _speaks_of(alert, KINDS["0.6 sd"])]
        hits += any(alert.status == "firing" and alert.labels["severity"] == "critical" for alert in said)
    return Row("g", "1 sd fires as critical in its first window", "all", str(Share(hits, trials)), hits == trials)


# -- (l) streams as they really are, (m) drift in them, (n) damage to a few values


def stationary(name: str, streams: int, days: int, m: int = natural.M) -> Row:
    """(l), (r) Nothing drifts, whatever varies: all window lengths together, the first day included."""
    pages = sum(_pages_of(name, seed, days, m) for seed in range(streams))
    months = streams * days / 30
    low, high = (chi2.ppf(p, 2 * pages + extra) / 2 / months for p, extra in ((0.025, 0), (0.975, 2)))
    rate = f"{pages / months:.2f} ({0.0 if pages == 0 else low:.2f} to {high:.2f})"
    what = f"pages per 30 days, {natural.STREAMS[name][0]}, m = {m}"
    letter = "l" if m == natural.M else "r"
    measured = f"{rate}: {pages} in {streams * days:,} days"
    if high <= 2 or low > 1:
        return Row(letter, what, "≤ 1, at most 2", measured, pages <= months and high <= 2)
    return Row(letter, what, "≤ 1, at most 2", f"{measured}, too few to decide", None)


def _pages_of(name: str, seed: int, days: int, m: int) -> int:
    stream = natural.Days(name, seed, m=m)
    stream.run(natural.DAY * days)
    return stream.engine.pages


def found_in(name: str, sd: float, trials: int, m: int = natural.M) -> Row:
    """(m), (r) A drift from the third day on in one feature: how many quarter hours until it is announced."""
    waited = []
    for seed in range(trials):
        stream = natural.Days(name, 1000 + seed, m=m)
        stream.run(2 * natural.DAY)
        stream.engine.alerts.clear()
        found = stream.run(natural.DAY if sd < 0.5 or m < SMALL else 12, sd)
        waited.append(999 if found is None else found + 1)
    middle = int(np.median(waited))
    letter = "m" if m == natural.M else "r"
    what = f"quarter hours until {sd} sd is announced, {natural.STREAMS[name][0]}, m = {m}"
    within = Share(sum(w < 999 for w in waited), trials)
    if sd < 0.5 or m < SMALL:
        note = f"; p50 {middle}" if middle < 999 else ""
        return Row(letter, what, "90 % within a day", f"{within}{note}", within.value >= 0.9)
    return Row(letter, what, "p50 ≤ 4", f"p50 {middle if middle < 999 else 'none'}; found {within}", middle <= 4)


DAMAGE = {
    "a unit error (× 100) in 5 % of the rows": damage(5, lambda x, some: np.where(some, 100.0 * x, x), 0.05),
    "°C → °F in 5 % of the rows": damage(0, lambda x, some: np.where(some, 1.8 * x + 32.0, x), 0.05),
    "a sensor stuck in 8 % of the rows": damage(0, lambda x, some: np.where(some, 50.37, x), 0.08),
    "the top 5 % × 3": damage(5, lambda x, _: np.where(x > np.quantile(x, 0.95), 3.0 * x, x), 0.0),
}


def damaged(name: str, trials: int) -> Row:
    """(n) n = 7,000, m = 1,500: announced within three windows, and nothing in the three before."""
    hits = false = 0
    for seed in range(trials):
        stream = Stream(seed, 7000)
        false += stream.run(3, 1500).pages
        hits += bool(stream.run(3, 1500, DAMAGE[name]).pages)
    measured = f"{Share(hits, trials)}; {false} pages in {3 * trials} windows before"
    return Row(
        "n", f"{name}: announced within three windows", "≥ 90 %, 0 before", measured, hits >= 0.9 * trials and not false
    )


# -- (o) features together


def found_together(name: str, trials: int) -> Row:
    """(o) n = 7,000, m = 1,500: the relation or segment is announced within three windows, and nothing before."""
    kind, change, feature = together.DRIFTS[name]
    hits = false = 0
    for seed in range(trials):
        stream = together.Stream(seed)
        false += sum(stream.quarter(1500) for _ in range(4))
        stream.engine.alerts.clear()
        if any(stream.quarter(1500, change) for _ in range(3)):
            named = [one for alert in stream.engine.alerts for one in alert.evidence["relations"] or []]
            hits += bool(named) and named[0]["kind"] == kind and feature in named[0]["features"]
    measured = f"{Share(hits, trials)}; {false} in {4 * trials} windows before"
    bar = "≥ 90 %, 0 before"
    return Row("o", f"{name}: named within three windows", bar, measured, hits >= 0.9 * trials and not false)


def quiet_together(streams: int, windows: int) -> Row:
    """(o) Windows without drift, half of them with a marginal alone: no relation and no segment."""
    pages = 0
    for seed in range(streams):
        stream = together.Stream(500 + seed)
        pages += sum(stream.quarter(1500) for _ in range(windows // 2))
        change = together.mix if seed % 2 else together.everywhere
        pages += sum(stream.quarter(1500, change) for _ in range(windows - windows // 2))
    what = "relations and segments in windows without drift, and with a marginal alone"
    return Row("o", what, "0", f"{pages} in {streams * windows:,} windows", pages == 0)


def quiet_as_they_are(name: str, streams: int, days: int) -> Row:
    """(o) The streams of (l): neighbouring events are alike, and no relation moves."""
    pages = 0
    for seed in range(streams):
        stream = natural.Days(name, 200 + seed)
        stream.run(natural.DAY * days)
        pages += sum(a.labels["alertname"] in {"RelationDrift", "SegmentDrift"} for a in stream.engine.alerts)
    what = f"relations and segments, {natural.STREAMS[name][0]}, m = 500"
    return Row("o", what, "0", f"{pages} in {streams * days * natural.DAY:,} windows", pages == 0)


# -- (p) the cause


def cause(trials: int) -> Row:
    """(p) Of ten features five are read, three have a twin; one that is read and two that are not move."""
    hits = sum(first_is_the_cause(seed) for seed in range(trials))
    return _at_least("p", "the largest score_shift is of the feature that is read and moved", 0.95, hits, trials)


# -- (q) predictions that are no probability


def prediction_stationary(task: TaskName, name: str, streams: int, days: int) -> Row:
    """(q) The streams of (l): predicted classes, or values, vary as the customers do, and nothing drifts."""
    pages = 0
    for seed in range(streams):
        stream = natural.Days(name, 300 + seed, task=task)
        stream.run(natural.DAY * days)
        pages += stream.about_the_prediction
    what = f"pages about the prediction, {PREDICTED[task]}, {natural.STREAMS[name][0]}, m = 500"
    return Row("q", what, "≤ 1 in 30 days", f"{pages} in {streams * days:,} days", pages <= max(1, streams * days / 30))


def prediction_found(task: TaskName, trials: int) -> Row:
    """(q) The odds behind every prediction move by 0.8 from the second day on: announced within four quarter hours."""
    hits = false = 0
    for seed in range(trials):
        stream = natural.Days("steady", 400 + seed, task=task)
        stream.run(natural.DAY)
        false += stream.about_the_prediction
        stream.engine.alerts.clear()
        stream.run(4, moved=0.8)
        hits += stream.about_the_prediction == 1
    measured = f"{Share(hits, trials)}; {false} in {trials} days before"
    return Row("q", f"{PREDICTED[task]} that move: announced within an hour", "≥ 90 %", measured, hits >= 0.9 * trials)


PREDICTED: dict[TaskName, str] = {"regression": "values of a regression", "multiclass": "predicted classes"}


# -- (h) … (k)


def traps() -> Row:
    """(i) Data that is broken rather than drifted is named, is no drift, and raises nothing."""
    wrong = [name for name, spring in TRAPS.items() if not spring()]
    measured = f"{len(wrong)} wrong of {len(TRAPS)}{': ' if wrong else ''}{', '.join(wrong)}"
    return Row("i", f"traps: {', '.join(TRAPS)}", "0 wrong, 0 exceptions", measured, not wrong)


def seasons(weeks: int, days: int) -> Row:
    """(h) This number of days of each week; the days between are left out: the comparison is with a week before."""
    stream = Weeks(0)
    for _ in range(weeks):
        stream.run(24 * days)
        stream.skip(24 * (7 - days))
    what = f"volume and mix cycle by day, 1.5 sd apart, {weeks} weeks of {days} days, DRIFT_BASELINE=week"
    measured = f"{stream.pages}; {sum(stream.exceeding):,} of {len(stream.exceeding):,} quarter hours exceed"
    return Row("h", what, "0 pages", measured, stream.pages == 0 and np.mean(stream.exceeding) < 0.002)


def cost(found: Cost) -> list[Row]:
    """(k) What `cost.py` measured."""
    whole_ms = found.evaluate_ms + found.relations_ms
    return [
        _costs(
            "counting one event of 25 features, in a batch",
            "≤ 3 µs",
            f"{found.count_us:.2f} µs",
            found.count_us <= 3,
        ),
        _costs("evaluating a window of 25 features", "≤ 3 ms", f"{found.evaluate_ms:.2f} ms", found.evaluate_ms <= 3),
        _costs(
            "evaluating a window of 25 features and their relations",
            "≤ 4 ms",
            f"{whole_ms:.2f} ms, of which relations {found.relations_ms:.2f}",
            whole_ms <= 4,
        ),
        _costs(
            "bringing a span of five windows of 100 events up to date",
            "≤ 4 ms with all else",
            f"{found.span_ms:.2f} ms",
            whole_ms + found.span_ms <= 4,
        ),
        Row(
            "k", "window state that relations add, 25 features", "≤ 20 kB", f"{found.relations_kb:.1f} kB",
            found.relations_kb <= 20,
        ),
        Row("k", "memory of the windows of such a span", "–", f"{found.span_kb:,.0f} kB", None),
    ]  # fmt: skip


def _costs(what: str, bar: str, measured: str, reached: bool) -> Row:
    return Row("k", what, bar, measured, reached, timed=True)


ELSEWHERE = (
    Row("j", "counts after SIGKILL anywhere, rebalance, replay", "equal to the bit",
        "held by tests/integration/test_drift_worker.py on a real broker", None),
    Row("k", "memory of the drift worker at 2,000 events/s", "≤ 150 MB, flat", "make soak measures it", None),
)  # fmt: skip

# Everything that is measured here, in order: its letter, the row, and how much of it is the full strength. Of what has
# references and windows, a lower strength takes fewer windows.
ALL: tuple[tuple[str, Callable[..., Row], dict[str, int]], ...] = (
    *(
        ("a", partial(without_drift, n, m, length, 20), {"windows": 95})
        for m, length in ((500, "15m"), (500, "24h"), (1500, "1h"), (10_000, "24h"))
        for n in (1000, 7000)
    ),
    ("a", partial(without_gates, 20), {"windows": 95}),
    *(("b", partial(evidence, n), {"trials": 600}) for n in (5000, 7000)),
    *(("c", partial(found, name), {"trials": 200}) for name in KINDS),
    ("d", partial(harmless, windows=3), {"references": 10}),
    *(
        ("e", partial(identical_repeats, customers, times, 10), {"windows": 40})
        for customers, times in ((750, 2), (600, 5), (600, 20))
    ),
    ("e", partial(loud_customer, 20), {"windows": 20}),
    ("e", independent_repeats, {"trials": 200}),
    ("f", messages, {"trials": 10}),
    *(("f", partial(one_movement, name), {"trials": 10}) for name in together.MOVEMENTS),
    ("g", minutes_to_page, {"trials": 200}),
    ("g", critical_at_once, {"trials": 50}),
    ("h", partial(seasons, 4), {"days": 7}),
    ("i", traps, {}),
    *(("l", partial(stationary, name, days=30), {"streams": 10}) for name in natural.STREAMS),
    *(("m", partial(found_in, name, sd), {"trials": 30}) for name in ("batches", "breathing") for sd in (0.5, 0.3)),
    ("m", partial(found_in, "day", 0.5), {"trials": 30}),
    *(
        ("r", partial(stationary, name, days=30, m=SMALL), {"streams": 10})
        for name in ("steady", "batches", "breathing", "offset", "day", "bursts")
    ),
    *(("r", partial(found_in, name, 0.5, m=SMALL), {"trials": 30}) for name in ("steady", "batches", "breathing")),
    ("r", partial(found_in, "steady", 0.3, m=SMALL), {"trials": 30}),
    ("r", partial(found_in, "steady", 0.5, m=20), {"trials": 30}),
    *(("n", partial(damaged, name), {"trials": 50}) for name in DAMAGE),
    *(("o", partial(found_together, name), {"trials": 50}) for name in together.DRIFTS),
    ("o", partial(quiet_together, 20), {"windows": 60}),
    ("p", cause, {"trials": 100}),
    *(("o", partial(quiet_as_they_are, name, days=3), {"streams": 5}) for name in natural.STREAMS if name != "week"),
    *(
        ("q", partial(prediction_stationary, task, name, days=10), {"streams": 6})
        for task in PREDICTED
        for name in ("steady", "batches", "breathing", "day")
    ),
    *(("q", partial(prediction_found, task), {"trials": 10}) for task in PREDICTED),
)


def measure(strength: float) -> Iterator[tuple[str, Callable[[], Row]]]:
    """(letter, what measures it) of all rows, at this share of the full strength."""
    for letter, row, counts in ALL:
        yield letter, partial(row, **{name: max(1, round(strength * count)) for name, count in counts.items()})
