"""The drift reference: the same arrays back, the same bytes for them, and nothing else accepted."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from schemas.reference import MAX_ROWS, Reference


def _reference(n=3):
    numeric = np.arange(2.0 * n).reshape(n, 2)
    numeric[0, 1] = np.nan
    codes = np.array([[i % 3 - 1] for i in range(n)], dtype=np.int32)
    return Reference(numeric, codes, np.linspace(0.0, 1.0, n), np.array([4], dtype=np.int64))


def _archive(**arrays):
    """An archive as to_bytes writes it, with some arrays exchanged or (None) left out."""
    reference = _reference()
    all_arrays = {name: getattr(reference, name) for name in ("numeric", "codes", "score", "singletons")} | arrays
    out = io.BytesIO()
    np.savez(out, **{name: array for name, array in all_arrays.items() if array is not None})
    return out.getvalue()


def test_the_arrays_come_back():
    """Missing values, codes and the number of rows."""
    reference = _reference()
    again = Reference.from_bytes(reference.to_bytes())
    np.testing.assert_array_equal(again.numeric, reference.numeric)
    np.testing.assert_array_equal(again.codes, [[-1], [0], [1]])
    np.testing.assert_array_equal(again.score, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(again.singletons, [4])
    assert [a.dtype for a in (again.numeric, again.codes, again.score, again.singletons)] == [
        np.float64,
        np.int32,
        np.float64,
        np.int64,
    ]
    assert again.rows == 3


def test_the_same_arrays_are_the_same_bytes():
    """The digest is the reference's identity in every alert: it must not depend on when it was written."""
    raw = _reference().to_bytes()
    assert raw == _reference().to_bytes()
    assert Reference.digest(raw) == Reference.digest(_reference().to_bytes())
    assert Reference.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_other_number_types_are_converted():
    """Any program may have written it: the arrays are float64, int32, float64 and int64 afterwards."""
    again = Reference.from_bytes(_archive(numeric=np.ones((3, 2), dtype=np.float32), codes=np.zeros((3, 1), dtype=int)))
    assert again.numeric.dtype == np.float64
    assert again.codes.dtype == np.int32


@pytest.mark.parametrize(
    ("numeric", "codes", "score", "singletons"),
    [
        ((0, 2), (0, 1), (0,), (1,)),
        ((MAX_ROWS + 1, 0), (MAX_ROWS + 1, 0), (MAX_ROWS + 1,), (0,)),
        ((2, 2), (3, 1), (3,), (1,)),
        ((3, 2), (2, 1), (3,), (1,)),
        ((3, 2), (3, 1), (2,), (1,)),
        ((3, 2), (3, 1), (3,), (2,)),
        ((3,), (3, 1), (3,), (1,)),
        ((3, 2), (3,), (3,), ()),
        ((3, 2), (3, 1), (3, 1), (1,)),
        ((3, 2), (3, 1), (), (1,)),
    ],
)
def test_arrays_that_are_not_row_aligned_are_refused(numeric, codes, score, singletons):
    """None or more than 10,000 rows, different numbers of rows, other dimensions."""
    with pytest.raises(ValueError, match=r"^reference: "):
        Reference(
            np.zeros(numeric), np.zeros(codes, dtype=np.int32), np.zeros(score), np.zeros(singletons, dtype=np.int64)
        )


def test_ten_thousand_rows_are_the_most():
    """The limit itself is accepted."""
    assert Reference.from_bytes(_reference(MAX_ROWS).to_bytes()).rows == 10_000


@pytest.mark.parametrize("name", ["numeric", "codes", "score", "singletons"])
def test_an_archive_without_one_of_its_arrays_is_refused(name):
    """Each of the four is needed."""
    with pytest.raises(ValueError, match=f"reference: not a reference archive.*{name}"):
        Reference.from_bytes(_archive(**{name: None}))


@pytest.mark.parametrize("array", [np.array(["a", "b", "c"]), np.array([1j, 2, 3]), np.array([True] * 3)])
def test_arrays_of_something_else_are_refused(array):
    """Text, complex numbers and truth values are no scores."""
    with pytest.raises(ValueError, match=r"reference: score holds .*, not numbers"):
        Reference.from_bytes(_archive(score=array))


def test_objects_are_never_unpickled(tmp_path):
    """An array of objects is a pickle within the archive; a bare pickle or a bare array is no archive."""

    class Writes:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    bare = io.BytesIO()
    np.save(bare, np.arange(3.0))
    for raw in (_archive(score=np.array([Writes()] * 3, dtype=object)), pickle.dumps(Writes()), bare.getvalue()):
        with pytest.raises(ValueError, match=r"^reference: not a reference archive"):
            Reference.from_bytes(raw)
    assert not (tmp_path / "executed").exists()


def test_damage_anywhere_is_a_value_error_or_changes_nothing():
    """Every byte of the archive flipped in turn: no other exception, and never other arrays than were written."""
    reference = _reference()
    raw = reference.to_bytes()
    refused = 0
    for i in range(len(raw)):
        damaged = bytearray(raw)
        damaged[i] ^= 0xFF
        try:
            again = Reference.from_bytes(bytes(damaged))
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(again.numeric, reference.numeric)
            np.testing.assert_array_equal(again.codes, reference.codes)
    assert refused > len(raw) // 2
    for cut in range(0, len(raw), 17):
        with pytest.raises(ValueError, match=r"^reference: not a reference archive"):
            Reference.from_bytes(raw[:cut])


def test_a_compressed_archive_is_read_and_its_damage_found():
    """Other programs compress; a damaged stream is a separate kind of error in Python."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_reference().to_bytes())) as plain,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    raw = out.getvalue()
    assert Reference.from_bytes(raw).rows == 3
    for i in range(30, 120):
        damaged = bytearray(raw)
        damaged[i] ^= 0xFF
        with pytest.raises(ValueError, match=r"^reference: not a reference archive"):
            Reference.from_bytes(bytes(damaged))
