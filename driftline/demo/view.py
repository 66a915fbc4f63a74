"""The output of the demo: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from driftline.terminal import clean, number

if TYPE_CHECKING:
    from driftline.demo.progress import Announced, Progress
    from schemas.alert import Alert

Labels = tuple[tuple[str, str], ...]
REFRESH_S = 0.5
LINE_EVERY_S = 5.0
AGE_WINDOW = 20  # refreshes over which quantiles are taken: the last 10 s
FEATURES_SHOWN = 8


def parse_metrics(text: str) -> dict[str, dict[Labels, float]]:
    """Return sample name → sorted labels → value."""
    out: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            out.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return out


def quantile(buckets: dict[float, float], q: float) -> float | None:
    """Return the q-quantile of a histogram's cumulative buckets (upper edge → count), linear within; None if empty."""
    total = buckets.get(float("inf"), 0.0)
    if total <= 0:
        return None
    rank, low_edge, low_count = q * total, 0.0, 0.0
    for edge, count in sorted(buckets.items()):
        if count >= rank and edge != float("inf"):
            share = (rank - low_count) / (count - low_count) if count > low_count else 1.0
            return low_edge + (edge - low_edge) * share
        low_edge, low_count = (edge, count) if edge != float("inf") else (low_edge, low_count)
    return low_edge


class View:
    """Prints steps as they happen, and changing values in one live panel (or a line every five seconds)."""

    def __init__(self, *, live: bool, unit: str = "s") -> None:
        self._unit = unit  # of the moments
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if live else None
        self._ages: deque[dict[float, float]] = deque(maxlen=AGE_WINDOW)
        self._printed_at = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(clean(text), style="dim"), soft_wrap=True)

    def step(self, text: str) -> None:
        """Print a line about a finished step."""
        self._console.print(Text.assemble(("✓ ", "green"), clean(text)), soft_wrap=True)

    def moment(self, at_s: float, text: str) -> None:
        """Print a line about a step that begins."""
        self._console.print(Text.assemble((f"{at_s:6.1f} {self._unit}  ", "cyan"), clean(text)), soft_wrap=True)

    def alert(self, at_s: float, alert: Alert) -> None:
        """Print a line about a record on the alerts topic."""
        style = "bold red" if alert.status == "firing" else "bold green"
        line = Text.assemble(
            (f"{at_s:6.1f} {self._unit}  ", "cyan"),
            (f"{alert.status.upper()} ", style),
            clean(f"{alert.title()}: {alert.annotations.get('summary', '')}"),
        )
        self._console.print(line, soft_wrap=True)

    async def refresh(self, progress: Progress) -> None:
        """Redraw twice a second, without end."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if not progress.scorer:
                continue
            self._ages.append(_age_buckets(progress.scorer))
            if self._live is not None:
                self._live.update(self._panel(progress))
            elif progress.elapsed_s - self._printed_at >= LINE_EVERY_S:
                self._printed_at = progress.elapsed_s
                self.moment(progress.elapsed_s, self._line(progress))

    def summary(
        self,
        progress: Progress,
        findings: Any,
        expected: dict[str, int],
        fired: Announced | None,
        resolved: Announced | None,
        urls: dict[str, str],
        *,
        accounted: bool,
    ) -> None:
        """Print the result, and the next commands to try."""
        f, plan = findings, progress.plan
        lost, doubled = f.faults["lost"], f.duplicates
        good, bad = ("✓", "green"), ("✗", "bold red")
        lines = [
            Text.assemble(
                good if accounted else bad,
                f" {progress.produced:,} events in = {f.predicted:,} predictions + {f.dead_lettered:,} dead letters, "
                f"{lost} lost, {doubled} duplicated",
            ),
            Text(clean(f"  dead letters by reason: {_counts(f.reasons)} (sent on purpose: {_counts(expected)})")),
            Text(f"  {f.scores_checked:,} scores computed again from the bundle, {f.faults['wrong_scores']} differ"),
        ]
        if fired is None:
            lines.append(Text.assemble(bad, f" drift injected at {plan.drift_from_s:.1f} s, no alert"))
        else:
            after = fired.at_s - plan.drift_from_s
            text = f" drift injected at {plan.drift_from_s:.1f} s, alert at T + {after:.1f} s ({fired.alert.title()})"
            if resolved is None:
                lines.append(Text.assemble(bad, clean(f"{text}, not resolved")))
            else:
                end = resolved.at_s - plan.drift_until_s
                lines.append(Text.assemble(good, clean(f"{text}, resolved {end:.1f} s after it ended")))
        early = [a for a in progress.alerts if a.alert.status == "firing" and a.at_s < plan.drift_from_s]
        lines.append(Text.assemble(bad if early else good, f" {len(early)} alerts before the drift"))
        lines += [Text(clean(f"  {example}")) for example in f.examples]
        self._console.print()
        for line in lines:
            self._console.print(line, soft_wrap=True)
        self._console.print()
        self.say(
            "Next: README.md, your own customers (docs/bring-your-model.md), `driftline demo --keep` to look around:"
        )
        self.say(f"  {urls['scorer']}/health  {urls['scorer']}/metrics  {urls['drift_worker']}/drift")

    # -- parts ------------------------------------------------------------------------------------------------------

    def _age(self) -> tuple[float | None, float | None]:
        """Return p50 and p99 of the event age over the last ten seconds, seconds."""
        if not self._ages:
            return None, None
        newest, oldest = self._ages[-1], self._ages[0]
        recent = {edge: count - oldest.get(edge, 0.0) for edge, count in newest.items()}
        return quantile(recent, 0.5), quantile(recent, 0.99)

    def _numbers(self, progress: Progress) -> dict[str, str]:
        scorer = progress.scorer
        predicted, dead = (
            _value(scorer, "driftline_scorer_records_total", outcome=o) for o in ("predicted", "dead_lettered")
        )
        p50, p99 = self._age()
        return {
            "events": f"{progress.produced:,}",
            "predictions": f"{predicted:,.0f}",
            "dead letters": f"{dead:,.0f}",
            "lag": f"{sum(scorer.get('driftline_scorer_lag_records', {}).values()):,.0f}",
            "age p50 / p99": "–" if p50 is None or p99 is None else f"{p50 * 1000:.0f} / {p99 * 1000:.0f} ms",
        }

    def _line(self, progress: Progress) -> str:
        numbers = ", ".join(f"{name} {value}" for name, value in self._numbers(progress).items())
        worst = _features(progress.drift)[:1]
        shown = f"; largest {worst[0][0]} PSI {number(worst[0][1])}, KS {number(worst[0][2])}" if worst else ""
        return numbers + shown

    def _panel(self, progress: Progress) -> Panel:
        numbers = Table.grid(padding=(0, 3))
        values = self._numbers(progress)
        numbers.add_row(*(Text(name, style="dim") for name in values))
        numbers.add_row(*(Text(value, style="bold") for value in values.values()))
        features = Table(box=None, padding=(0, 2), title="feature, last 5 s window", title_justify="left")
        for name in ("", "PSI", "KS", ""):
            features.add_column(name, justify="left" if not name else "right")
        for name, psi, ks in _features(progress.drift)[:FEATURES_SHOWN]:
            size = max(psi or 0.0, ks or 0.0)
            style = "red" if size >= 0.2 else "yellow" if size >= 0.1 else "green"
            bar = Text("█" * min(30, round(size * 60)), style=style)
            features.add_row(Text(clean(name)), number(psi), number(ks), bar)
        title = Text(clean(f"{progress.elapsed_s:5.1f} s  {progress.phase}"))
        return Panel(Group(numbers, Text(), features), title=title, title_align="left", border_style="cyan")


def _age_buckets(scorer: dict[str, dict[Labels, float]]) -> dict[float, float]:
    buckets: dict[float, float] = {}
    for labels, count in scorer.get("driftline_scorer_event_age_seconds_bucket", {}).items():
        edge = float(dict(labels)["le"])
        buckets[edge] = buckets.get(edge, 0.0) + count
    return buckets


def _value(metrics: dict[str, dict[Labels, float]], name: str, **labels: str) -> float:
    return metrics.get(name, {}).get(tuple(sorted(labels.items())), 0.0)


def _features(drift: dict[str, dict[Labels, float]]) -> list[tuple[str, float | None, float | None]]:
    """Return (feature, PSI, KS) of the shortest window, largest first; KS is None for categories."""
    found: dict[str, list[float | None]] = {}
    for column, name in enumerate(("driftline_drift_psi", "driftline_drift_ks")):
        for labels, value in drift.get(name, {}).items():
            read = dict(labels)
            if read.get("window") == "5s":
                found.setdefault(read["feature"], [None, None])[column] = value
    rows = [(feature, psi, ks) for feature, (psi, ks) in found.items()]
    return sorted(rows, key=lambda row: -max(row[1] or 0.0, row[2] or 0.0))


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "none"
