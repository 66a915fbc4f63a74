"""`driftline keys` and `driftline sign`: who may publish a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from driftline import terminal
from driftline.errors import CommandError

PRIVATE, PUBLIC = "private.pem", "public.pem"


def keys(
    out: Annotated[Path, typer.Option(help="Folder of the two files.")] = Path("artifacts/keys"),
) -> None:
    """Make an Ed25519 key pair: private.pem for `driftline sign`, public.pem for MODEL_PUBLIC_KEY.

    Existing files are never overwritten: a lost private key cannot be made again. Keep the private key where models are
    signed, not where they are served.

    Example: driftline keys --out artifacts/keys
    """
    key = Ed25519PrivateKey.generate()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (PRIVATE, PUBLIC):
            if (out / name).exists():
                raise CommandError(f"{out / name} exists; name another folder with --out")
        _write(out / PRIVATE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write(out / PUBLIC, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror or error}") from None
    terminal.show(f"{out / PRIVATE}: sign with it: driftline sign --key {out / PRIVATE} DIR")
    terminal.show(f"{out / PUBLIC}: verify with it: MODEL_PUBLIC_KEY={out / PUBLIC}")


def sign(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the bundle.", show_default=False)],
    key: Annotated[Path, typer.Option(help="private.pem of `driftline keys`.", show_default=False)],
) -> None:
    """Sign a bundle: manifest.sig is the Ed25519 signature of manifest.json, which holds the hashes of all other files.

    A bundle whose files do not fit its manifest is not signed. No code of the bundle is executed.

    Example: driftline sign --key artifacts/keys/private.pem artifacts/model
    """
    from schemas.bundle.files import sign_bundle
    from schemas.bundle.manifest import BundleError

    try:
        private = key.read_bytes()
    except OSError as error:
        raise CommandError(f"{key}: {error.strerror or error}") from None
    try:
        manifest = sign_bundle(directory, private)
    except BundleError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{directory}: {error.strerror or error}") from None
    terminal.show(f"{directory}: {manifest.name} {manifest.version} is signed")


def _write(path: Path, content: bytes, mode: int) -> None:
    # exclusive, and never readable by others, not even briefly
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
