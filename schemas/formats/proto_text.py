"""A .proto text → a FileDescriptorProto, as far as records are read from it.

Registries return Protobuf schemas as text, and some as nothing else. Only what a record's bytes depend on is kept:
services, extensions and options are skipped, except an edition's features and `map_entry`, which the Java serializer
writes out. Names, numbers and types are checked by the descriptor pool that the
result is put into.
"""

from __future__ import annotations

import re
from typing import Any

from schemas.formats.registered import UnreadableSchemaError

# As Google's own compiler has it.
DEEPEST = 32
# Messages, fields and enum values: more than any schema of events has.
MOST_PARTS = 10_000
_LARGEST = 2**31 - 1

# A quantifier with + never gives back, so that no text costs more than its length.
_TOKEN = re.compile(
    r"""(?:\s|//[^\n]*|/\*(?:[^*]|\*(?!/))*+\*/)*+
    (?:(?P<name>[A-Za-z_]\w*+)|(?P<number>\.?[0-9](?:[eE][+-]|[\w.])*+)
    |(?P<text>"(?:[^"\\\n]|\\[^\n])*+"|'(?:[^'\\\n]|\\[^\n])*+')|(?P<sign>[][{}()<>=;,.:+-]|/(?!\*))|(?P<wrong>\S))""",
    re.VERBOSE | re.ASCII,
)
_INTEGER = re.compile("0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19}")
_OPEN, _CLOSE = {"{": "}", "[": "]", "(": ")", "<": ">"}, frozenset("}])>")
_SCALARS = (
    "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "bytes", "uint32",
    "sfixed32", "sfixed64", "sint32", "sint64",
)  # fmt: skip
_LABELS = ("optional", "required", "repeated")
_EDITION = "2023"


def parse(text: str) -> Any:
    """Return the FileDescriptorProto of a text; UnreadableSchemaError."""
    return _Parser(text).file()


class _Parser:
    """Reads one text, token by token."""

    def __init__(self, text: str) -> None:
        from google.protobuf import descriptor_pb2  # noqa: PLC0415 - an extra

        self._pb = descriptor_pb2
        self._text = text
        self._at = 0
        self._parts = 0
        self._kind, self._token, self._start = "", "", 0
        self._proto3 = self._editions = False
        self._advance()

    def _advance(self) -> str:
        """Go to the next token; return the one that was there."""
        before = self._token
        match = _TOKEN.match(self._text, self._at)
        if match is None:  # blanks and comments until the end
            self._kind, self._token, self._start = "", "", len(self._text)
        else:
            self._kind = match.lastgroup or ""
            self._token, self._start, self._at = match[self._kind], match.start(self._kind), match.end()
            if self._kind == "wrong":  # an open text or comment, or what no .proto has
                raise self._error("another character")
        return before

    def _error(self, expected: str) -> UnreadableSchemaError:
        line = self._text.count("\n", 0, self._start) + 1
        return UnreadableSchemaError(f"no .proto text: line {line}: expected {expected}, got {self._token[:40]!r}")

    def _is(self, token: str) -> bool:
        return self._token == token and self._kind != "text"

    def _take(self, token: str) -> None:
        if not self._accept(token):
            raise self._error(repr(token))

    def _accept(self, token: str) -> bool:
        found = self._is(token)
        if found:
            self._advance()
        return found

    def _name(self) -> str:
        if self._kind != "name":
            raise self._error("a name")
        return self._advance()

    def _path(self) -> str:
        """Take names with points between them."""
        parts = ["."] if self._accept(".") else []
        parts.append(self._name())
        while self._accept("."):
            parts += [".", self._name()]
        return "".join(parts)

    def _string(self) -> str:
        if self._kind != "text" or not self._token.isascii():
            raise self._error("a text in quotes")
        parts = []
        while self._kind == "text":  # adjacent texts are one
            parts.append(self._advance()[1:-1])
        return "".join(parts)

    def _integer(self) -> int:
        negative = self._accept("-")
        if self._kind != "number" or not _INTEGER.fullmatch(self._token):
            raise self._error("an integer")
        digits = self._advance()
        octal = digits[:1] == "0" and len(digits) > 1 and digits[1] not in "xX"
        try:
            found = int(digits, 8 if octal else 0)
        except ValueError:
            found = _LARGEST + 2
        if found > _LARGEST + negative:
            raise UnreadableSchemaError(f"no .proto text: {digits} is no number of a field or an enum value")
        return -found if negative else found

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise UnreadableSchemaError(f"more than {MOST_PARTS:,} parts")

    def _skip(self, end: str) -> None:
        """Skip until a sign that is in no brackets, and the sign itself."""
        self._until(end)
        self._advance()

    def _until(self, *ends: str) -> None:
        """Skip until one of these signs that is in no brackets."""
        awaited: list[str] = []
        while awaited or self._token not in ends or self._kind != "sign":
            if not self._kind:
                raise self._error(repr(awaited[-1] if awaited else ends[0]))
            sign = self._advance() if self._kind == "sign" else self._advance() and ""
            if sign in _OPEN:
                awaited.append(_OPEN[sign])
            elif sign in _CLOSE and (not awaited or awaited.pop() != sign):
                raise self._error("another bracket")

    def _option(self, found: Any, *ends: str) -> None:
        """Take an option up to one of these signs. found: what the option is of."""
        if self._editions and self._accept("features"):
            if self._accept("."):
                if self._kind == "name":  # else those of a language
                    name = self._advance()
                    self._take("=")
                    self._feature(found, name)
            else:
                self._take("=")
                self._take("{")
                self._features(found)
        self._until(*ends)

    def _features(self, found: Any) -> None:
        """Take features that are together in braces."""
        while not self._accept("}"):
            if self._kind == "name":
                name = self._advance()
                self._take(":")
                self._feature(found, name)
            else:  # those of a language
                self._until("}", ",", ";")
            if not self._accept(","):
                self._accept(";")

    def _feature(self, found: Any, name: str) -> None:
        features = found.options.features
        known = features.DESCRIPTOR.fields_by_name.get(name)
        values = known.enum_type.values_by_name if known is not None and known.enum_type is not None else {}
        if self._token not in values:
            raise self._error(f"a value of the feature {name}")
        setattr(features, name, values[self._advance()].number)

    def file(self) -> Any:
        """Read the whole text."""
        found = self._pb.FileDescriptorProto()
        while self._kind:
            word = self._token
            if word in {"syntax", "edition"}:
                self._syntax(found)
            elif word == "import":
                self._import(found)
            elif self._accept("package"):
                found.package = self._path()
                self._take(";")
            elif self._accept("message"):
                self._message(found.message_type.add(), 1)
            elif self._accept("enum"):
                self._enum(found.enum_type.add())
            elif self._accept("option"):
                self._option(found, ";")
                self._take(";")
            elif self._accept("service") or self._accept("extend"):
                self._block()
            else:
                self._take(";")
        return found

    def _block(self) -> None:
        """Skip a name and what is in the braces behind it."""
        self._path()
        self._take("{")
        self._skip("}")

    def _syntax(self, found: Any) -> None:
        word = self._advance()
        self._take("=")
        stated = self._string()
        self._editions = word == "edition"
        if stated not in ({_EDITION} if self._editions else {"proto2", "proto3"}):
            expected = f"syntax proto2 or proto3, or edition {_EDITION}"
            raise UnreadableSchemaError(f"a .proto text of {word} {stated!r}: expected {expected}")
        self._take(";")
        self._proto3 = stated == "proto3"
        if self._editions:
            found.syntax, found.edition = "editions", self._pb.EDITION_2023
        elif self._proto3:
            found.syntax = stated

    def _import(self, found: Any) -> None:
        self._advance()
        public = self._accept("public")
        if not public:
            self._accept("weak")
        if public:
            found.public_dependency.append(len(found.dependency))
        found.dependency.append(self._string())
        self._take(";")

    def _message(self, found: Any, depth: int) -> None:
        self._count()
        found.name = self._name()
        self._body(found, depth)

    def _body(self, found: Any, depth: int) -> None:
        if depth > DEEPEST:
            raise UnreadableSchemaError(f"messages nested deeper than {DEEPEST}")
        self._take("{")
        while not self._accept("}"):
            if not self._kind:
                raise self._error("'}'")
            self._member(found, depth)
        # those that `optional` makes stand behind the others
        names = {one.name for one in (*found.field, *found.oneof_decl)}
        for field in found.field:
            if field.proto3_optional:
                name = f"_{field.name}"
                while name in names:
                    name = f"X{name}"
                names.add(name)
                field.oneof_index = len(found.oneof_decl)
                found.oneof_decl.add(name=name)

    def _member(self, found: Any, depth: int) -> None:
        word = self._token if self._kind == "name" else ""
        if word == "message":
            self._advance()
            self._message(found.nested_type.add(), depth + 1)
        elif word == "enum":
            self._advance()
            self._enum(found.enum_type.add())
        elif word == "oneof":
            self._oneof(found, depth)
        elif word == "option":
            self._advance()
            if self._accept("map_entry"):
                self._take("=")
                found.options.map_entry = self._name() == "true"
            self._skip(";")
        elif word in {"reserved", "extensions"}:
            self._advance()
            self._skip(";")
        elif word == "extend":
            self._advance()
            self._block()
        elif not self._accept(";"):
            self._field(found, depth, None)

    def _oneof(self, found: Any, depth: int) -> None:
        self._advance()
        number = len(found.oneof_decl)
        found.oneof_decl.add(name=self._name())
        self._take("{")
        while not self._accept("}"):
            if self._accept("option"):
                self._skip(";")
            elif not self._accept(";"):
                self._field(found, depth, number)

    def _field(self, message: Any, depth: int, oneof: int | None) -> None:
        self._count()
        label = self._advance() if oneof is None and self._kind == "name" and self._token in _LABELS else ""
        field = message.field.add()
        field.label = {"repeated": field.LABEL_REPEATED, "required": field.LABEL_REQUIRED}.get(
            label, field.LABEL_OPTIONAL
        )
        if oneof is not None:
            field.oneof_index = oneof
        elif not label and not self._proto3 and not self._editions and not self._is("map"):
            raise self._error("optional, required or repeated")
        elif self._editions and label not in {"", "repeated"}:
            raise self._error(f"a field without {label}, which an edition does not have")
        named = self._path()
        if named == "map" and self._accept("<"):
            if label or oneof is not None:
                raise self._error("a map without a label")
            self._map(message, field)
        elif named == "group" and not self._proto3 and not self._editions and self._kind == "name":
            self._group(message, field, depth)
            return
        else:
            self._type(field, named)
            field.name = self._name()
            field.proto3_optional = self._proto3 and label == "optional"
            self._number(field)
        if self._accept("["):
            self._option(field, ",", "]")
            while self._accept(","):
                self._option(field, ",", "]")
            self._take("]")
        self._take(";")

    def _type(self, field: Any, named: str) -> None:
        if named in _SCALARS:
            field.type = getattr(field, f"TYPE_{named.upper()}")
        else:
            field.type_name = named  # the pool finds it, and whether it is a message or an enum

    def _number(self, field: Any) -> None:
        self._take("=")
        field.number = self._integer()

    def _map(self, message: Any, field: Any) -> None:
        self._count()
        key = self._name()
        if key not in _SCALARS or key in {"double", "float", "bytes"}:
            raise self._error(f"a key of another type than {key}")
        self._take(",")
        value = self._path()
        self._take(">")
        field.name = self._name()
        self._number(field)
        parts = [part[:1].upper() + part[1:] for part in field.name.split("_")]
        entry = message.nested_type.add(name=f"{''.join(parts)}Entry")
        entry.options.map_entry = True
        for number, (name, named) in enumerate((("key", key), ("value", value)), 1):
            self._type(entry.field.add(name=name, number=number, label=field.LABEL_OPTIONAL), named)
        field.label, field.type_name = field.LABEL_REPEATED, entry.name

    def _group(self, message: Any, field: Any, depth: int) -> None:
        inner = message.nested_type.add(name=self._name())
        field.name, field.type, field.type_name = inner.name.lower(), field.TYPE_GROUP, inner.name
        self._number(field)
        if self._accept("["):
            self._skip("]")
        self._body(inner, depth + 1)

    def _enum(self, found: Any) -> None:
        self._count()
        found.name = self._name()
        self._take("{")
        while not self._accept("}"):
            if self._is("option") or self._is("reserved"):
                option = self._advance() == "option"
                if self._is("="):  # a value of that name
                    raise self._error("another name")
                if option:
                    self._option(found, ";")
                self._skip(";")
            elif not self._accept(";"):
                self._count()
                value = found.value.add(name=self._name())
                self._take("=")
                value.number = self._integer()
                if self._accept("["):
                    self._skip("]")
                self._take(";")
        # several names of one number are legal with an option, which is skipped; the pool need not look for it
        found.options.allow_alias = len({value.number for value in found.value}) < len(found.value)
