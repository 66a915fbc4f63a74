"""A Kafka that requires credentials and grants only what an ACL allows; and the document's ACLs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.brokers import Broker
from support.oracle import Names
from support.waiting import wait_until

from schemas.setting_names import Topics

TEXT = (Path(__file__).parents[2] / "docs" / "connect-your-kafka.md").read_text(encoding="utf-8")
PASSWORD = "correct horse"  # noqa: S105 - of users that live as long as a test
WAIT_S = 120.0
MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}
LOGINS = ("plain.PlainLoginModule", "scram.ScramLoginModule")
# The text before every ACL of the document: a shell variable that the document defines.
ACL = "$acl "
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_RESOURCES = {
    "--topic": ResourceType.TOPIC,
    "--group": ResourceType.GROUP,
    "--transactional-id": ResourceType.TRANSACTIONAL_ID,
}


def _section(title: str) -> str:
    return re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def documented_settings(title: str) -> dict[str, str]:
    """Return the environment that the document gives as the example under a heading."""
    return dict(re.findall(r"^([A-Z_]+)=(\S+)$", _section(title), re.MULTILINE))


def documented_blocks() -> list[dict[str, str]]:
    """Return the environment of every example of the document that sets variables, in its order."""
    blocks = re.findall(r"^```\n(KAFKA_.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]


def documented_acls(title: str, names: Names, user: str) -> list[AclBinding]:
    """Return the ACLs that the document gives under a heading, for a test's topics and groups, and for `user`."""
    lines = _section(title).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.removeprefix(ACL)) for line in lines if line.startswith(ACL)]
    assert commands, f"no ACLs under {title}"
    return [acl for words in commands for acl in _acls(words, names, user)]


def _acls(words: Sequence[str], names: Names, user: str) -> list[AclBinding]:
    """Return what one kafka-acls.sh command adds: every operation on every resource."""
    options = list(zip(words[::2], words[1::2], strict=True))
    assert {name for name, _ in options} <= {*_RESOURCES, "--allow-principal", "--operation", "--resource-pattern-type"}
    prefixed = ("--resource-pattern-type", "prefixed") in options
    return [
        AclBinding(
            _RESOURCES[kind],
            _renamed(resource, names),
            ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            _OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for kind, resource in options
        if kind in _RESOURCES
        for name, operation in options
        if name == "--operation"
    ]


def _renamed(resource: str, names: Names) -> str:
    """Return a default name, or one derived from a group's, as the test has it."""
    defaults = {field.upper(): getattr(Topics(), field) for field in Topics.model_fields}
    own = {default: names.environment[setting] for setting, default in defaults.items()}
    groups = {
        "driftline-scorer": names.environment["SCORER_GROUP"],
        "driftline-drift": names.environment["DRIFT_GROUP"],
    }
    for default, group in groups.items():
        if re.fullmatch(rf"{default}(-evaluator|-labels)?\.?", resource):
            return resource.replace(default, group)
    return own.get(resource, resource)


class Authority:
    """A certificate authority of one test run, and the PEM files of whom it has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        certificate = self._signed(self._name, self._key.public_key(), authority=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, common_name: str, password: str | None = None, valid: timedelta = timedelta(hours=12)
    ) -> tuple[Path, Path]:
        """Certificate and private key (PKCS #8, encrypted if there is a password) of `common_name` at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = self._signed(subject, key.public_key(), authority=False, valid=valid)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
        cert_file, key_file = self._folder / f"{common_name}.pem", self._folder / f"{common_name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return cert_file, key_file

    def broker_settings(self) -> dict[str, str]:
        """Return the settings of a broker with a certificate of this authority, for its listeners with TLS."""
        certificate, key = self.issue("broker")
        keystore = self._folder / "keystore.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
        }

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        authority: bool,
        valid: timedelta = timedelta(hours=12),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if not authority:
            names = [x509.IPAddress(ip_address("127.0.0.1"))]
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
                x509.ExtendedKeyUsage(usages), critical=False
            )
        else:
            usage = x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
                key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                decipher_only=False,
            )  # fmt: skip
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(self._key, hashes.SHA256())


class SecuredBroker:
    """SASL_SSL (PLAIN, SCRAM) and SSL (mutual TLS) beside the plain listener, where the test is the administrator.

    A context manager. Only the administrator has rights before others are granted. plain_users: users that may log in
    with PLAIN; Kafka reads them from its configuration. Every password is PASSWORD. settings: more of the broker's.
    """

    def __init__(self, folder: Path, plain_users: Iterable[str], settings: Mapping[str, str] | None = None) -> None:
        self.authority = Authority(folder)
        plain, scram = (f"org.apache.kafka.common.security.{module} required" for module in LOGINS)
        users = " ".join(f'user_{name}="{PASSWORD}"' for name in plain_users)
        self.local = Broker(
            listeners=("SASL_SSL", "SSL"),
            settings={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                **self.authority.broker_settings(),
                "listener.name.ssl.ssl.client.auth": "required",
                "listener.name.ssl.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
                "listener.name.sasl_ssl.sasl.enabled.mechanisms": ",".join(["PLAIN", *MECHANISMS]),
                "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{plain} {users};",
                **{f"listener.name.sasl_ssl.{name.lower()}.sasl.jaas.config": f"{scram};" for name in MECHANISMS},
                **(settings or {}),
            },
        )

    def __enter__(self) -> Self:
        self.local.__enter__()
        self.admin = AdminClient({"bootstrap.servers": self.local.bootstrap_servers})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.local.__exit__(kind, error, traceback)

    def set_password(self, user: str, mechanism: str, password: str = PASSWORD) -> None:
        """Make a SCRAM user, or give one another password."""
        credential = ScramCredentialInfo(MECHANISMS[mechanism], 4096)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        for done in self.admin.alter_user_scram_credentials([change]).values():
            done.result(WAIT_S)
        wait_until(lambda: credential.mechanism in self._mechanisms(user), "the broker has the user")

    def _mechanisms(self, user: str) -> list[ScramMechanism]:
        """Return those for which the broker has a password of the user."""
        try:
            found = self.admin.describe_user_scram_credentials([user])[user].result(WAIT_S)
        except KafkaException:  # no such user yet
            return []
        return [info.mechanism for info in found.scram_credential_infos]

    def grant(self, acls: Sequence[AclBinding]) -> None:
        """Allow it from now on."""
        for done in self.admin.create_acls(list(acls)).values():
            done.result(WAIT_S)
        wait_until(lambda: all(self._in_force(acl) for acl in acls), "what was granted is in force")

    def revoke(self, acls: Sequence[AclBinding]) -> None:
        """Allow it no more."""
        for done in self.admin.delete_acls([_exactly(acl) for acl in acls]).values():
            assert len(done.result(WAIT_S)) == 1
        wait_until(lambda: not any(self._in_force(acl) for acl in acls), "what was revoked is out of force")

    def _in_force(self, acl: AclBinding) -> bool:
        """Return whether the broker applies it: the controller answers a change before the broker has received it."""
        return bool(self.admin.describe_acls(_exactly(acl)).result(WAIT_S))


def _exactly(acl: AclBinding) -> AclBindingFilter:
    """Return this one and no other."""
    return AclBindingFilter(
        acl.restype, acl.name, acl.resource_pattern_type, acl.principal, "*", acl.operation, acl.permission_type
    )
