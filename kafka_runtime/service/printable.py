"""Text of unknown authors as a line that a terminal shows and does not obey: control characters become escapes."""

from __future__ import annotations

import unicodedata

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def clean(text: object) -> str:
    r"""Return the text with every control character as an escape: what is printed is what is shown.

    The escapes are those of JSON and TOML, so that a document stays one.

    >>> clean("a\x1b[2Jb\n[bold]"), clean("évian – 12 %")
    ('a\\u001b[2Jb\\n[bold]', 'évian – 12 %')
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_visible, text))


def clean_json(encoded: str) -> str:
    r"""Return one line of JSON with the control characters within its strings as JSON's own escapes.

    >>> print(clean_json('{"a": "\x9b31m"}'))
    {"a": "\u009b31m"}
    """
    return encoded if encoded.isprintable() else "".join(map(_visible_in_json, encoded))


def _visible(character: str) -> str:
    # Spaces other than " " are not printable by Python's rule, and harmless.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    return _SHORT.get(character) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")


def _visible_in_json(character: str) -> str:
    shown = _visible(character)
    if not shown.startswith("\\U"):
        return shown
    pair = character.encode("utf-16-be").hex()
    return f"\\u{pair[:4]}\\u{pair[4:]}"
