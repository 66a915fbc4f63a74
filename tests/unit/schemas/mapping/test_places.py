"""Paths into a record: how they are written, and what is made of them."""

import pytest

from schemas.mapping.places import Place, Source, header, is_plain, place_of, position, put, scalar, steps_of, written


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", Place(Source.VALUE, (), "")),
        ("a.b", Place(Source.VALUE, ("a", "b"), "a.b")),
        ("a|json.0", Place(Source.VALUE, ("a", "|json", "0"), "a|json.0")),
        ("$key", Place(Source.KEY, (), "$key")),
        ("$key.a.b", Place(Source.KEY, ("a", "b"), "$key.a.b")),
        ("$header.x.y", Place(Source.HEADER, ("x.y",), "$header.x.y")),
        ("$timestamp", Place(Source.TIMESTAMP, (), "$timestamp")),
    ],
)
def test_a_path_names_a_place(text, place):
    """A header's name may have dots."""
    assert place_of(text) == place


@pytest.mark.parametrize("text", ["a..b", ".a", "a.", "|json", "a.|json", "$", "$keys", "$header.", "$header", "$key."])
def test_what_is_no_path_is_refused(text):
    """Every step has a name."""
    with pytest.raises(ValueError, match=r"empty part|expected a path"):
        place_of(text)


def test_positions_and_plain_paths():
    """Only the form that JSON Pointer has, without leading zeros."""
    assert [position(step) for step in ("0", "10", "01", "-1", "", "1.0", "\u0661")] == [0, 10, *[None] * 5]
    assert [is_plain(steps_of(path)) for path in ("a.b", "", "a.0", "a|json")] == [True, True, False, False]


def test_equal_json_values_are_equal_scalars():
    """True is no number, and text is none either."""
    assert scalar(1) == scalar(1.0)
    assert len({scalar(value) for value in (1, True, "1", "true", None)}) == 5
    assert scalar([]) is None


def test_what_is_put_is_written_as_json():
    """Objects, arrays with gaps, and a text within."""
    event = {}
    put(event, ("a", "2", "b"), 1)
    put(event, ("a", "2", "c"), 2)
    put(event, ("t", "|json", "x"), True)
    assert written(event) == {"a": [None, None, {"b": 1, "c": 2}], "t": '{"x":true}'}


def test_the_last_header_counts():
    """As Kafka's own clients have it."""
    headers = [("a", b"1"), ("a", b"2"), ("b", None)]
    assert [header(headers, name) for name in "abc"] == [b"2", None, None]
