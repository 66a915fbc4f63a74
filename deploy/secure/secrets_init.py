"""Certificates and passwords of the secured variant, made once, each into a volume that only its owner mounts.

Runs in the scorer's image before everything else, and prints where the secrets are, never their content. The
authority's key is not kept. To renew the secrets (they are valid for a year), remove the volumes and start again.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path("/secrets")
# Users with a password (SCRAM), each with a volume of this name with ca.pem and password.
USERS = ("scorer", "drift-worker", "upstream", "operator")
BROKER_NAMES = ("kafka", "localhost")
VALID = timedelta(days=365)
PBKDF2_ITERATIONS = 8192
# The group may read: the broker's user is another one, and gets this group (group_add).
MODE = 0o640


class Authority:
    """A certificate authority that lives as long as this process."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("driftline compose")
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = self._builder(self._name, self._key.public_key(), authority=True).add_extension(usage, critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str, names: tuple[str, ...] = ()) -> bytes:
        """Return private key and certificate in one PEM file, as Kafka reads a key store.

        names: host names of the server.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(_name(common_name), key.public_key(), authority=False).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if names:
            known = [*map(x509.DNSName, names), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private + certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(hours=1))
            .not_valid_after(self._now + VALID)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(MODE)
    path.write_bytes(content)
    print(f"made {path.parent.name}/{path.name} (volume {path.parent.name}-secrets)")


def make(root: Path, now: datetime) -> None:
    """Create all secrets; the admin's authority comes last, so where it is, the others are."""
    authority = Authority(now)
    _write(root / "broker" / "broker.pem", authority.issue("broker", BROKER_NAMES))
    _write(root / "broker" / "ca.pem", authority.pem)
    for user in USERS:
        password = secrets.token_urlsafe(32)
        _write(root / user / "password", password.encode())
        _write(root / user / "ca.pem", authority.pem)
        # as kafka-configs.sh --add-config-file reads it: no password in a command line
        scram = f"SCRAM-SHA-512=iterations={PBKDF2_ITERATIONS},password={password}\n"
        _write(root / "admin" / f"{user}.scram", scram.encode())
    _write(root / "admin" / "admin.pem", authority.issue("admin"))
    _write(root / "admin" / "ca.pem", authority.pem)


if __name__ == "__main__":
    if (ROOT / "admin" / "ca.pem").exists():
        print("all there since the first start")
    else:
        make(ROOT, datetime.now(UTC))
