"""`driftline keys` and `driftline sign`: a pair of files, and a signature that a scorer accepts."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from support import bundles

from driftline.commands.model.keys import keys, sign
from driftline.errors import CommandError
from schemas.bundle.manifest import BundleError
from scorer.model import load


@pytest.fixture(scope="module")
def estimator():
    """One for all."""
    return bundles.fitted()


@pytest.fixture
def bundle(tmp_path, estimator):
    """An unsigned bundle."""
    bundles.write(tmp_path / "model", estimator)
    return tmp_path / "model"


@pytest.fixture
def pair(tmp_path):
    """Folder of a key pair."""
    keys(out=tmp_path / "keys")
    return tmp_path / "keys"


def test_a_pair_is_made_that_belongs_together_and_is_private(pair):
    """PEM files; the private one is readable by its owner only."""
    private = load_pem_private_key((pair / "private.pem").read_bytes(), password=None)
    public = load_pem_public_key((pair / "public.pem").read_bytes())
    assert isinstance(private, Ed25519PrivateKey)
    assert isinstance(public, Ed25519PublicKey)
    public.verify(private.sign(b"x"), b"x")
    assert (pair / "private.pem").stat().st_mode & 0o777 == 0o600
    assert (pair / "public.pem").stat().st_mode & 0o777 & ~0o022 == 0o644


def test_keys_are_never_overwritten(pair):
    """Not the private one, and not the public one either."""
    before = (pair / "private.pem").read_bytes()
    with pytest.raises(CommandError, match=r"private\.pem exists"):
        keys(out=pair)
    assert (pair / "private.pem").read_bytes() == before
    (pair / "private.pem").unlink()
    with pytest.raises(CommandError, match=r"public\.pem exists"):
        keys(out=pair)
    assert not (pair / "private.pem").exists()


def test_a_signed_bundle_is_served_with_its_key(bundle, pair, tmp_path):
    """Before signing it is refused; with another pair's key it stays so."""
    public = pair / "public.pem"
    with pytest.raises(BundleError, match="missing"):
        load(bundle, public)
    sign(directory=bundle, key=pair / "private.pem")
    assert load(bundle, public).signed
    keys(out=tmp_path / "other")
    with pytest.raises(BundleError, match="not a signature"):
        load(bundle, tmp_path / "other" / "public.pem")


@pytest.mark.parametrize("name", ["model.joblib", "reference.npz", "manifest.json"])
def test_a_damaged_bundle_is_not_signed(bundle, pair, name):
    """A signature means that a person checked it; no signature is left behind."""
    path = bundle / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CommandError) as caught:
        sign(directory=bundle, key=pair / "private.pem")
    assert name in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (bundle / "manifest.sig").exists()


def _pem(key, encryption):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no key", "not an unencrypted PEM file"),
        (_pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "not an unencrypted PEM file"),
        (_pem(generate_private_key(65537, 2048), NoEncryption()), "not an Ed25519 key"),
        (None, "No such file"),
    ],
)
def test_a_key_that_cannot_sign_is_named(bundle, tmp_path, content, words):
    """Another kind of key, an encrypted one, none at all."""
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(CommandError, match=words):
        sign(directory=bundle, key=key)
    assert not (bundle / "manifest.sig").exists()
