"""`driftline examples`: the files that the examples of every `--help` name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftline import example_files, terminal
from driftline.errors import CommandError


def command(
    out: Annotated[Path, typer.Option(help="Folder to write them to.")] = Path("examples"),
) -> None:
    """Write 7,043 real customers and two specs to a folder: the files that the examples of every `--help` name.

    A file with the same content is kept; a file with other content is never overwritten.

    Example: driftline examples --out examples
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in example_files.NAMES:
            content, file = (example_files.folder() / name).read_bytes(), out / name
            if file.exists() and file.read_bytes() != content:
                raise CommandError(f"{file} exists with other content; name another folder with --out")
            if not file.exists():
                file.write_bytes(content)
            terminal.show(file)
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror or error}") from None
