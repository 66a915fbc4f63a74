"""Measured windows and alerts as tests of the page want them, and a reader of the page."""

from html.parser import HTMLParser

from drift_worker.page.history import History
from drift_worker.page.page import drift_page
from schemas.alert import Alert, fingerprint
from schemas.measurement import Bins, FeatureMeasurement, Level, Measurement, Sample, Window
from schemas.timestamps import render

START_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z
QUARTER_MS = 900_000
EVIL = "<script>alert(1)</script>\"'&<b>"


def feature(effect=0.336, state="critical", kind="numeric", **changes):
    """Return a feature that has moved by `effect`; None: its numbers are not known."""
    return FeatureMeasurement(
        **{
            "kind": kind,
            "events": 4120,
            "effective": 3987.2,
            "psi": None if effect is None else effect + 0.01,
            "psi_corrected": effect,
            "ks": 0.22 if effect is not None and kind != "categorical" else None,
            "linf": 0.11 if effect is not None and kind == "categorical" else None,
            "effect": effect,
            "significant": None if effect is None else True,
            "state": state,
            "effect_warning": 0.1,
            "effect_critical": 0.2,
            "reference": 7032,
            "missing_ratio": 0.0,
            "reference_missing_ratio": 0.002,
            "null_999": None if effect is None else 0.011,
            "bins": None if effect is None else Bins([12.0, 40.0], [0.5, 0.3, 0.2], [0.8, 0.15, 0.05]),
            **changes,
        }
    )


def unknown(reason="not_enough_data", **changes):
    """Return a feature without numbers, with the reason."""
    return feature(None, "not_enough_data", reason=reason, events=120, effective=None, missing_ratio=None, **changes)


def measurement(number=0, length="15m", ms=QUARTER_MS, features=None, **changes):
    """Return the window with this number after START_MS."""
    start = START_MS + number * ms
    return Measurement(
        **{
            "model": "churn-telco",
            "model_version": "1.4.0",
            "reference_sha256": "ab12" * 16,
            "window": Window(length, render(start), render(start + ms)),
            "complete": True,
            "sample": Sample(4120, 3, 12),
            "level": Level(0.018, 76),
            "features": {"tenure": feature()} if features is None else features,
            "score": feature(0.03, "inactive", "score", mean=0.33, reference_mean=0.27),
            **changes,
        }
    )


def alert(sequence=1, ended=False, starts_ms=START_MS, feature="tenure", **changes):
    """Return a message of an episode of `feature`."""
    labels = {"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": feature}
    return Alert(
        **{
            "fingerprint": fingerprint(labels),
            "status": "resolved" if ended else "firing",
            "labels": labels,
            "annotations": {"summary": "tenure moved: PSI 0.34", "description": "d", "runbook_url": "docs/r.md#x"},
            "starts_at": render(starts_ms),
            "ends_at": render(starts_ms + QUARTER_MS) if ended else None,
            "sequence": sequence,
            "evidence": {"features": None},
            **changes,
        }
    )


def history(*found):
    """Return a history of these measurements and alerts, in this order."""
    collected = History("churn-telco")
    for one in found:
        (collected.announced if isinstance(one, Alert) else collected.measured)(one)
    return collected


def page(*found, **changes):
    """Return the HTML page of these measurements and alerts."""
    return drift_page(
        history(*found).story(),
        **{
            "model": "churn-telco",
            "version": "1.4.0",
            "made_ms": START_MS + 7 * QUARTER_MS,
            "source": "From a test.",
            **changes,
        },
    )


class Page(HTMLParser):
    """Elements with their attributes, texts, and whether every element is closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)

    def card(self, name):
        """Texts from a feature's heading up to the next one's."""
        after = self.texts[max(i for i, text in enumerate(self.texts) if text == name and i < self._table()) :]
        return " ".join(after[: after.index("All numbers as a table")])

    def _table(self):
        return self.texts.index("As a table")
