"""The reading of .proto texts: equal to Google's compiler, and one clear line for what is no such text."""

import importlib
from importlib.metadata import files

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from schemas.formats.proto_text import MOST_PARTS, parse
from schemas.formats.registered import UnreadableSchemaError

# Distributions that have both a text and what Google's compiler has made of it.
_SOURCES = [
    path
    for name in ("googleapis-common-protos", "opentelemetry-proto")
    for path in files(name) or ()
    if path.suffix == ".proto"
]


def _kept(file):
    """Return a file without the parts that no record's bytes depend on."""
    for part in ("options", "service", "extension", "source_code_info", "weak_dependency"):
        file.ClearField(part)
    for message in file.message_type:
        _kept_message(message)
    for enum in file.enum_type:
        _kept_enum(enum)
    return file


def _kept_message(message):
    entry = message.options.map_entry
    for part in ("options", "extension", "extension_range", "reserved_range", "reserved_name"):
        message.ClearField(part)
    if entry:
        message.options.map_entry = True
    for field in message.field:
        for part in ("options", "json_name", "default_value"):
            field.ClearField(part)
    for inner in message.nested_type:
        _kept_message(inner)
    for enum in message.enum_type:
        _kept_enum(enum)


def _kept_enum(enum):
    for part in ("options", "reserved_range", "reserved_name"):
        enum.ClearField(part)
    for value in enum.value:
        value.ClearField("options")


def _pool_of(dependencies):
    pool, known = DescriptorPool(), set()

    def add(file):
        for one in file.dependencies:
            add(one)
        if file.name not in known:
            known.add(file.name)
            pool.AddSerializedFile(file.serialized_pb)

    for one in dependencies:
        add(one)
    return pool


@pytest.mark.parametrize("path", _SOURCES, ids=str)
def test_a_text_is_read_as_googles_compiler_reads_it(path):
    """Public files with every construct: maps, oneofs, groups of options, comments, nested types, imports."""
    compiled = importlib.import_module(str(path.with_suffix("")).replace("/", ".") + "_pb2").DESCRIPTOR
    ours = parse(path.read_text())
    ours.name = compiled.name
    pool = _pool_of(compiled.dependencies)
    pool.Add(ours)
    found = FileDescriptorProto()
    pool.FindFileByName(compiled.name).CopyToProto(found)
    assert _kept(found) == _kept(FileDescriptorProto.FromString(compiled.serialized_pb))


def test_there_are_files_to_compare_with():
    """Else the comparison above would hold for nothing."""
    assert len(_SOURCES) > 40


TRICKY = """/* a comment; syntax = "proto3"; */ syntax = 'proto2'; package a.b;; // another
option java_package = "x;}"; option (own) = { inner { a: "}" b: [1, 2] } };
message M {
  required .a.b.M.E one = 0x1 [default = B, (own).x = {a: [ ']' ]}];
  optional group Two = 02 { optional string inner = 1; }
  repeated int32 packed = 3 [packed = true]; map<string, M> by_name_2 = 4;
  oneof choice { option (own) = 1; bytes raw = 5; string text = 6; }
  enum E { option allow_alias = true; A = 0; B = 1; C = 1 [deprecated = true]; D = -2; reserved 9, 10 to max; }
  reserved 100 to 200; reserved "gone"; extensions 1000 to max [declaration = {number: 1}];
  extend M { optional int32 more = 1001; }
  message option_ { } ; optional option_ message = 7; optional int64 syntax = 8;
}
service S { rpc Call (M) returns (stream M) { option (x) = { a: 1 }; } }
extend M { optional int32 other = 1002; }
"""


def test_what_is_rare_is_read():
    """Groups, aliases, hexadecimal and octal numbers, brackets in options, and names that are words of the language."""
    pool, file = DescriptorPool(), parse(TRICKY)
    file.name = "m"
    pool.Add(file)
    message = pool.FindMessageTypeByName("a.b.M")
    assert [(f.name, f.number) for f in message.fields] == [
        ("one", 1), ("two", 2), ("packed", 3), ("by_name_2", 4), ("raw", 5), ("text", 6), ("message", 7), ("syntax", 8),
    ]  # fmt: skip
    assert [m.name for m in message.nested_types] == ["Two", "ByName2Entry", "option_"]
    assert {v.name: v.number for v in message.enum_types[0].values} == {"A": 0, "B": 1, "C": 1, "D": -2}


def test_optional_of_proto3_has_presence():
    """By a oneof of its own, behind the others and with a name that is free."""
    file = parse('syntax="proto3"; message M { optional int32 a = 1; oneof _a { int32 b = 2; } int32 c = 3; }')
    file.name = "m"
    pool = DescriptorPool()
    pool.Add(file)
    fields = pool.FindMessageTypeByName("M").fields_by_name
    assert [fields[name].has_presence for name in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("message M {", "line 1: expected '}', got ''"),
        ("syntax = 'proto4';", "expected syntax proto2 or proto3"),
        ("edition = '2024';", "edition '2024': expected syntax proto2 or proto3, or edition 2023"),
        ("edition = '2023'; message M { optional int32 a = 1; }", "a field without optional"),
        ("edition = '2023'; option features.field_presence = NEVER;", "a value of the feature field_presence"),
        ("edition = '2023'; option features.of_its_own = OPEN;", "a value of the feature of_its_own"),
        ("edition = '2023'; option features = { enum_type: OPEN", "expected '}', got ''"),
        ("\n\nmessage 7 {}", "line 3: expected a name, got '7'"),
        ("message M { int32 a = 1; }", "optional, required or repeated"),
        ("syntax='proto3'; message M { int32 a = 99999999999; }", "99999999999 is no number of a field"),
        ("syntax='proto3'; message M { map<double, int32> a = 1; }", "a key of another type than double"),
        ("option a = [ };", "expected another bracket"),
        ("option a = 'open", 'another character, got "\'"'),
        ("message M { /* open", "line 1: expected another character, got '/'"),
        ("import 'a\u00e9';", "a text in quotes"),
        ("{}", "expected ';', got '{'"),
        ("message M {" * 40, "messages nested deeper than 32"),
        ("syntax='proto3'; message M {" + "int32 a = 1;" * (MOST_PARTS + 1) + "}", "more than 10,000 parts"),
    ],
)
def test_what_is_no_text_is_one_line_that_says_where(text, why):
    """A person finds the line."""
    with pytest.raises(UnreadableSchemaError) as raised:
        parse(text)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)
