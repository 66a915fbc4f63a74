"""Labels: what is valid, and the first reason against what is not."""

import json

import pytest

from schemas.label import Label, LabelReason, ValueLabel, decode_label, known_outcome
from schemas.task import Regression

GOOD = {"customer_id": "7590-VHVEG", "label": True, "label_time": "2026-12-20T00:00:00Z"}
NOW_MS = 1_797_000_000_000  # 2026-12-11T14:40:00Z


def _decode(value, now_ms=NOW_MS + 30 * 86_400_000):
    return decode_label(value if isinstance(value, bytes | None) else json.dumps(value).encode(), now_ms, 300_000)


def test_a_label_is_read_with_and_without_the_prediction_it_names():
    """Members may be added; what is not known is passed over."""
    verdict = _decode({**GOOD, "source": "crm"})
    assert verdict.label == Label("7590-VHVEG", True, "2026-12-20T00:00:00Z")
    assert verdict.time_ms == 1_797_724_800_000
    assert _decode({**GOOD, "prediction_id": "customer-events-3-1042"}).label.prediction_id == "customer-events-3-1042"
    assert decode_label(verdict.label.encode(), NOW_MS * 2, 0).label == verdict.label
    assert b"prediction_id" not in verdict.label.encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "not_json"),
        (b"\x00\x00\x00\x00\x01x", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"label": NaN}', "not_json"),
        (b"[" * 200, "not_json"),
        (b'{"customer_id": "\\ud800"}', "not_json"),
        ([], "envelope"),
        ({}, "envelope"),
        ({**GOOD, "label": 1}, "envelope"),
        ({**GOOD, "label": "true"}, "envelope"),
        ({**GOOD, "label": None}, "envelope"),
        ({**GOOD, "customer_id": ""}, "envelope"),
        ({**GOOD, "customer_id": "a\nb"}, "envelope"),
        ({**GOOD, "customer_id": 7}, "envelope"),
        ({**GOOD, "label_time": "yesterday"}, "envelope"),
        ({**GOOD, "label_time": 1_797_724_800}, "envelope"),
        ({**GOOD, "prediction_id": ""}, "envelope"),
        ({**GOOD, "prediction_id": "x" * 301}, "envelope"),
        ({**GOOD, "label_time": "2099-01-01T00:00:00Z"}, "label_time_in_future"),
    ],
)
def test_what_is_no_label_has_a_reason(value, reason):
    """Nothing that a record can hold raises."""
    verdict = _decode(value)
    assert (verdict.label, verdict.reason) == (None, LabelReason(reason))


def test_a_null_prediction_id_is_none():
    """Producers that write every member."""
    assert _decode({**GOOD, "prediction_id": None}).label.prediction_id is None


@pytest.mark.parametrize(
    ("label", "outcome"),
    [
        *((12.5, 12.5), (-7, -7.0), (0, 0.0), (10**300, 1e300)),
        *((True, None), ("12.5", None), (None, None), ([1.0], None), (10**400, None)),
    ],
)
def test_a_regressions_label_is_a_number(label, outcome):
    """Integers are numbers; true is none, and what is beyond a double is none."""
    found = known_outcome(json.dumps({**GOOD, "label": label}).encode(), NOW_MS * 2, 0, Regression().outcome)
    if outcome is None:
        assert found is LabelReason.ENVELOPE
    else:
        assert (found.customer_id, found.outcome, type(found.outcome)) == ("7590-VHVEG", outcome, float)
        assert known_outcome(ValueLabel("a", outcome, GOOD["label_time"]).encode(), NOW_MS * 2, 0, Regression().outcome)
