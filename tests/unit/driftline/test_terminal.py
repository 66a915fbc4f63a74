"""What commands print: control characters are shown and not sent, markup is text, and there is one way to print."""

import ast
import json
from pathlib import Path

import pytest

from driftline import terminal

HOSTILE = "\x1b[2J\x9b31m\x07[/nothing][link=http://x]y[/link]\u202e\u2028:smile:\r\n\x7f\U000e0001{0}%s"
ROOT = Path(terminal.__file__).parent
# The way to print itself, the demo's live panel, which cleans what it shows, and scripts of environments of their own.
OWN = {"terminal.py", "demo_view.py", "view.py"}
FOREIGN = {"benchmark", "evidently", "peers"}


def printable(text):
    """Whether nothing in it moves a cursor or hides text; lines apart."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2028", "\u200b", "\udcff", "\U000e0001"]
)
def test_a_control_character_is_shown_as_its_escape(character):
    """Terminals act on C0 and C1, readers are misled by direction marks, and a lone surrogate cannot be written."""
    assert terminal.clean(f"a{character}b").isprintable()
    assert terminal.clean(f"a{character}b") != "ab"


def test_ordinary_text_stays_as_it_is():
    """Letters of any script, and spaces of any width."""
    for text in ("évian – 12 %", "12\u00a0345\u202fEUR", "東京", "a [b] {c} \\d"):
        assert terminal.clean(text) == text


def test_nothing_that_is_printed_is_interpreted(capsys):
    """A line, a note, a table with its title: each stays what it is, and shows all of it."""
    terminal.show(HOSTILE)
    terminal.note(HOSTILE)
    terminal.show_table([HOSTILE, "n"], [[HOSTILE, None], ["x" * 5000, 1]], right=["n"], title=HOSTILE)
    printed = capsys.readouterr()
    assert printable(printed.out)
    assert printed.err == terminal.clean(HOSTILE) + "\n"
    for part in ("\\u001b[2J", "\\u009b31m", "[/nothing]", "[link=http://x]y[/link]", "\\u202e", ":smile:", "{0}%s"):
        assert printed.out.count(part) >= 3
    assert "x" * 1001 not in printed.out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("indent", [False, True])
def test_json_keeps_its_meaning_and_holds_no_control_character(capsys, indent):
    """A program that parses it gets the same text back; also file names of bytes that are no UTF-8."""
    document = {"text": HOSTILE, HOSTILE: [1, None, {"nested": "\udcff"}]}
    terminal.show_json(document, indent=indent)
    out = capsys.readouterr().out
    assert printable(out)
    assert json.loads(out) == document
    assert (out.count("\n") > 1) is indent


def test_a_record_that_claims_to_be_json_stays_on_its_line(capsys):
    """`--json` prints records of a topic as they are, one a line."""
    terminal.show_encoded('{"a":\n 1}\r\n\x1b[2J')
    assert capsys.readouterr().out == '{"a":  1} \\u001b[2J\n'


def test_an_unknown_number_is_a_dash():
    """In every format."""
    assert [terminal.number(None, form) for form in (".3f", "+.4f", ",.0f")] == ["–"] * 3
    assert terminal.number(-0.5, "+.2f") == "-0.50"


def test_commands_print_through_one_module():
    """No command calls print or writes to a stream or to the table library by itself."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if path.name in OWN or FOREIGN & set(path.parts[len(ROOT.parts) : -1]):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="print")) | ast.Call(func=ast.Attribute(attr="echo" | "secho")):
                    found.append(f"{path.name}:{node.lineno}")
                case ast.Call(func=ast.Attribute(attr="write", value=ast.Attribute(attr="stdout" | "stderr"))):
                    found.append(f"{path.name}:{node.lineno}")
                case ast.ImportFrom(module=module) if module and module.split(".")[0] == "rich":
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
