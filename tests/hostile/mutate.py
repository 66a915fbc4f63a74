"""Bytes nearly like good ones: a mutator that knows JSON's and msgpack's grammar as well as plain bytes.

Everything is drawn from the `random.Random` it is given: the same seed, the same bytes.
"""

from __future__ import annotations

import re
from random import Random

MAX_BYTES = 20_000
# A JSON (or TOML) token: the text between two places where a parser looks again.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[A-Za-z_]+|[\[\]{},:=]')
# the text where a value is expected
_VALUE = re.compile(rb'(?<=[:=\[,])\s*("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[a-z]+)')
_OPENING, _CLOSING = {b"{": b"}", b"[": b"]"}, {b"}", b"]"}
TOKENS = (
    *(b"null", b"true", b"false", b"[]", b"{}", b'""', b'"x"', b'{"a":1}', b"[" * 120 + b"]" * 120, b'{"a":' * 120),
    *(b"0", b"-0", b"1", b"2", b"-1", b"1.0", b"1.5", b"1e400", b"-1e400", b"1e-400", b"9" * 400, b"9" * 5000),
    *(
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"1_000",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"nan",
        b"inf",
        b"-inf",
        b"nul",
    ),
    *(b"120", b"120.00000000000001", b"121", b"9007199254740991", b"9007199254740992", b"9223372036854775808"),
    *(b"18446744073709551616", b"-9223372036854775809", b"1e18", b"2147483648", b"4294967296"),
    *(
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\\u0000"',
        b'"\\u0085"',
        b'"\\x41"',
        b'"\xed\xa0\x80"',
    ),
    *(b'"' + b"x" * 128 + b'"', b'"' + b"x" * 129 + b'"', b'"\x00"', b'"\x7f"', b'"\xc3\xa9"', b'"\xef\xbb\xbf"'),
    *(
        b'"2026-11-22T05:00:00Z"',
        b'"2999-01-01T00:00:00Z"',
        b'"0000-00-00T00:00:00Z"',
        b'"2026-11-22t05:00:00.1+24:00"',
    ),
    *(
        b'"2016-12-31T23:59:60Z"',
        b'"2026-02-29T00:00:00Z"',
        b'"One year"',
        b'"__proto__"',
        b'"schema_version"',
        b'"features"',
    ),
    *(b"1979-05-27T07:32:00Z", b"0000-00-00", b"'x'", b'"""x"""', b"[[x]]", b"#", b"\n"),
)
BYTES = (
    b"\x00",
    b"\xff",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\t",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
)
# msgpack's type bytes: nil, booleans, integers and floats of every width, strings, bytes, arrays, maps, extensions
PACKED = tuple(
    bytes([code]) for code in (*range(0xC0, 0xE0), 0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xE0, 0xFF)
)
WIDE = (
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
    b"\xd3\x7f" + b"\xff" * 7,
    b"\xce\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
)


def mutate(data: bytes, draw: Random, others: list[bytes]) -> bytes:
    """`data` with one to four changes; `others` to take parts from."""
    # what is nearly right goes deeper than what the first byte gives away
    changes = _OF_TEXT if b"{" in data[:3] or b"\n" in data[:300] else _OF_BYTES
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        change = draw.choice(changes)
        data = _splice(data, draw, others) if change is _splice else change(data, draw)
    return data[:MAX_BYTES]


def _bytes(data: bytes, draw: Random) -> bytes:
    """A few bytes changed, removed, doubled, put in, or cut off."""
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice((1, 1, 2, 4, 8, 32)))
    match draw.randrange(6):
        case 0:
            return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + data[at:end] * draw.choice((2, 2, 3, 200)) + data[end:]
        case 3:
            return data[:at] + draw.choice(BYTES) + data[at:]
        case 4 if at < len(data):
            return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        case _:
            return data[:at]


def _token(data: bytes, draw: Random) -> bytes:
    """A token replaced by another, removed, doubled, or changed for one elsewhere in the same document."""
    places = [match.span() for match in _TOKEN.finditer(data)]
    if not places:
        return _bytes(data, draw)
    start, end = draw.choice(places)
    match draw.randrange(6):
        case 0:
            other = draw.choice(places)
            return data[:start] + data[slice(*other)] + data[end:]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:end] + data[end:]
        case _:
            return data[:start] + draw.choice(TOKENS) + data[end:]


def _value(data: bytes, draw: Random) -> bytes:
    """A value becomes another one, of any type: the document mostly stays one."""
    places = [match.span(1) for match in _VALUE.finditer(data)]
    if not places:
        return _token(data, draw)
    start, end = draw.choice(places)
    other = data[slice(*draw.choice(places))] if draw.random() < 0.2 else draw.choice(TOKENS)
    return data[:start] + other + data[end:]


def _structure(data: bytes, draw: Random) -> bytes:
    """A whole object or array removed, doubled beside itself, nested in itself, or put somewhere else."""
    opened, spans = [], []
    for match in _TOKEN.finditer(data):
        if match[0] in _OPENING:
            opened.append(match.start())
        elif match[0] in _CLOSING and opened:
            spans.append((opened.pop(), match.end()))
    if not spans:
        return _token(data, draw)
    start, end = draw.choice(spans)
    part = data[start:end]
    match draw.randrange(5):
        case 0:
            return data[:start] + b"null" + data[end:]
        case 1:
            return data[:end] + b"," + part + data[end:]
        case 2:
            depth = draw.choice((1, 2, 98, 99, 100, 101, 3000))
            return data[:start] + b"[" * depth + part + b"]" * depth + data[end:]
        case 3:
            at = draw.choice([match.end() for match in _TOKEN.finditer(data)])
            return data[:at] + part + data[at:]
        case _:
            # the members in another order, or twice: a repeated name's last value wins
            inner = part[1:-1].split(b",")
            draw.shuffle(inner)
            return data[:start] + part[:1] + b",".join(inner + inner[: draw.randrange(2)]) + part[-1:] + data[end:]


def _packed(data: bytes, draw: Random) -> bytes:
    """A byte that begins a msgpack value becomes that of another type, or a number as wide as there are."""
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(WIDE if draw.random() < 0.3 else PACKED) + data[at + 1 :]


def _splice(data: bytes, draw: Random, others: list[bytes]) -> bytes:
    """The head of one and the tail of another."""
    other = draw.choice(others) if others else data
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


_OF_TEXT = (*(_value,) * 9, *(_token,) * 2, *(_structure,) * 2, _bytes, _splice)
_OF_BYTES = (*(_packed,) * 4, *(_bytes,) * 3, _token, _splice)
