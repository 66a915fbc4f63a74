"""Headers: where the input stood, what is passed on, and what of our name space is dropped."""

import pytest
from support.events import record

from schemas import headers as h

STAMP = h.Stamp("customer-events", 3, "1.4.0", "driftline-scorer")
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_seven_headers_say_what_was_answered():
    """Names, order and values as the contract has them: UTF-8 text, integers in decimal."""
    assert STAMP.headers(record(b"x", offset=1042, timestamp=1_795_327_199_500, timestamp_type=1)) == [
        ("driftline-source-topic", b"customer-events"),
        ("driftline-source-partition", b"3"),
        ("driftline-source-offset", b"1042"),
        ("driftline-source-timestamp", b"1795327199500"),
        ("driftline-source-timestamp-type", b"append"),
        ("driftline-model-version", b"1.4.0"),
        ("driftline-group", b"driftline-scorer"),
    ]


def test_a_batch_of_headers_is_one_list_per_record():
    """Offsets, times and types are each record's own, further headers follow, and no list is shared."""
    records = [record(b"x", offset=7, timestamp=-1, timestamp_type=0), record(b"y", offset=9, timestamp_type=1)]
    first, second = STAMP.batch(records, h.CONTENT_TYPE)
    assert first == [*STAMP.headers(records[0]), ("content-type", b"application/json")]
    assert second == [*STAMP.headers(records[1]), ("content-type", b"application/json")]
    assert first[2:5] == [
        ("driftline-source-offset", b"7"),
        ("driftline-source-timestamp", b"-1"),
        ("driftline-source-timestamp-type", b"create"),
    ]
    first.append(("traceparent", TRACE))
    assert len(second) == 8


def test_text_in_headers_is_utf8():
    """A group may have any name."""
    assert h.Stamp("t", 0, "1.0.0", "gruppe-é").headers(record(b""))[-1] == ("driftline-group", "gruppe-é".encode())


def test_the_names_are_the_contracts():
    """Consumers look for exactly these."""
    assert [h.REASON, h.DETAIL, h.ATTEMPT, h.TRUNCATED, h.SIZE, h.SHA256] == [
        "driftline-reason",
        "driftline-detail",
        "driftline-attempt",
        "driftline-truncated",
        "driftline-size",
        "driftline-sha256",
    ]


def test_a_trace_context_is_passed_on():
    """In the W3C form; should it be repeated, the last one counts."""
    assert h.traceparent([("a", b"1"), ("traceparent", TRACE)]) == ("traceparent", TRACE)
    assert h.traceparent([("traceparent", b"junk"), ("traceparent", TRACE)]) == ("traceparent", TRACE)
    assert h.traceparent([("traceparent", TRACE), ("traceparent", b"junk")]) is None
    assert h.traceparent([]) is None
    assert h.traceparent([("Traceparent", TRACE)]) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        TRACE.upper(),
        TRACE + b"\n",
        TRACE + b"-01",
        b" " + TRACE,
        TRACE[:-1],
        TRACE.replace(b"-", b"_"),
        b"ff" + TRACE[2:],
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        b"0g" + TRACE[2:],
    ],
)
def test_what_has_not_the_w3c_form_is_dropped(value):
    """Wrong lengths, letters and case; version ff and ids of zeros only, which the standard calls invalid."""
    assert h.traceparent([("traceparent", value)]) is None


def test_incoming_headers_of_our_name_space_are_dropped_and_counted():
    """All but driftline-attempt, which redriving writes: that one is dropped too, and read, but no forgery."""
    headers = [
        ("trace", b"1"),
        ("driftline-source-offset", b"7"),
        ("driftline-attempt", b"2"),
        ("driftline-anything", None),
        ("trace", b"2"),
        ("driftline", b"x"),
        ("Driftline-Reason", b"x"),
    ]
    assert h.without_ours(headers) == (
        [("trace", b"1"), ("trace", b"2"), ("driftline", b"x"), ("Driftline-Reason", b"x")],
        2,
    )
    assert h.without_ours([]) == ([], 0)


@pytest.mark.parametrize(
    ("values", "attempt"),
    [
        ([], 0),
        ([b"0"], 0),
        ([b"3"], 3),
        ([b"3", b"4"], 4),
        ([b"3", b"x"], 0),
        ([b"999999999"], 999_999_999),
        ([b""], 0),
        ([None], 0),
        ([b"-1"], 0),
        ([b"+1"], 0),
        ([b" 1"], 0),
        ([b"1.0"], 0),
        ([b"1_0"], 0),
        ([b"\xff"], 0),
        (["\u0663".encode()], 0),
        ([b"9" * 5000], 0),
    ],
)
def test_an_attempt_that_is_no_number_counts_as_0(values, attempt):
    """Digits only; the last one, should it be repeated."""
    assert h.attempt([("a", b"9"), *(("driftline-attempt", value) for value in values)]) == attempt
