"""The documents as a whole: links lead somewhere, commands and make targets exist, the index is complete."""

import re
from pathlib import Path

import pytest
import typer

from driftline.cli import app as commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
GROUPS = {
    name: command.commands
    for name, command in typer.main.get_command(commands).commands.items()
    if hasattr(command, "commands")
}
COMMANDS = typer.main.get_command(commands).commands
# What commands and builds write is no part of the checkout: the tests pass with it and without it.
WRITTEN = {"artifacts", "build", "dist"}
TOPS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in WRITTEN)
# Names of all files and folders of the checkout.
NAMES = {path.name for top in TOPS for path in ((ROOT / top), *(ROOT / top).rglob("*"))}
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _code(text):
    """Return the lines of code blocks without comments and continuations, and the pieces of inline code."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    """A relative link names a file of the repository, and a heading in it if it has an anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists_with_its_options(path):
    """`driftline NAME --option` in code is a command of the command line that has the option."""
    for code in _code(path.read_text(encoding="utf-8")):
        for line in re.findall(r"(?:^|[\s(/])driftline ([a-z][a-z-]*(?: [^|;&]*)?)", code):
            name, *words = line.split()
            assert name in COMMANDS, line
            group = GROUPS.get(name, {})
            command = group.get(words[0], COMMANDS[name]) if words else COMMANDS[name]
            if words and group and not words[0].startswith("-"):
                assert words[0].rstrip(",") in group, line
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            given = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
            assert given <= options, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_exists(path):
    """`make NAME` in code is a target of the Makefile."""
    for code in _code(path.read_text(encoding="utf-8")):
        assert set(re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", code)) <= TARGETS, code


def test_the_index_lists_every_document():
    """docs/README.md has a link to each page beside it."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert [name for name in sorted(pages) if f"]({name}" not in index] == []


def _paths(text):
    """Return what is a path in code: `folder/`, `folder/file.ext` and `file.py`; artifacts/ is what commands write."""
    words = (word.strip("`'\",;()") for code in _code(text) for word in code.split())
    form = re.compile(r"(?!artifacts/)((?:[\w.-]+/)+|(?:[\w.-]+/)+[\w-]+\.(?:py|md|toml|csv|yml|svg|lock|env)|\w+\.py)")
    return {word for word in words if form.fullmatch(word)}


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_every_file_and_folder_that_a_page_names_is_there(path):
    """A path starts at the root, at the page or at tests/; a name alone is somewhere. Recipes write NAME for a name."""
    unknown = set()
    for name in _paths(path.read_text(encoding="utf-8")):
        place = name.rpartition("/")[0] if "NAME" in name else name
        below = any((base / place).exists() for base in (ROOT, path.parent, ROOT / "tests"))
        if not (below if "/" in place.rstrip("/") else place.rstrip("/") in NAMES):
            unknown.add(name)
    assert unknown == set()


@pytest.mark.parametrize(
    "package", ["bench", "deploy", "driftline", "drift_worker", "kafka_runtime", "schemas", "scorer"]
)
def test_every_file_that_the_code_names_is_there(package):
    """Docstrings, comments and messages refer to files by their path from the root."""
    name = re.compile(rf"(?<![\w/.-])(?:{'|'.join(TOPS)})/[\w./-]*\.(?:py|md|toml|csv|yml)\b")
    named = {
        (str(path.relative_to(ROOT)), found)
        for path in (ROOT / package).rglob("*.py")
        for found in name.findall(path.read_text(encoding="utf-8"))
    }
    assert {(path, found) for path, found in named if not (ROOT / found).exists()} == set()
