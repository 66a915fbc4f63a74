"""What runs in containers beside the services: the demo's alert receiver, and what makes certificates and passwords."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ALERT = {
    "status": "firing",
    "labels": {"alertname": "FeatureDrift", "severity": "critical", "model": "churn-telco", "feature": "tenure"},
    "annotations": {"summary": "tenure moved"},
    "startsAt": "2026-11-26T05:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
}
FIRING = "2026-11-26T05:00:00Z firing critical FeatureDrift feature=tenure model=churn-telco: tenure moved"


def _script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECEIVER = _script("deploy/demo/alert_receiver.py")
SECRETS = _script("deploy/secure/secrets_init.py")


@pytest.fixture
def receiver() -> Iterator[str]:
    """The address of a running alert receiver."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), RECEIVER.Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_alert_is_a_line(receiver: str, capsys: pytest.CaptureFixture[str]) -> None:
    """When it began or ended, what it is, its labels in order, its summary."""
    ended = {**ALERT, "status": "resolved", "endsAt": "2026-11-26T06:00:00Z"}
    assert httpx.post(receiver, json={"version": "4", "alerts": [ALERT, ended]}).status_code == 200
    resolved = FIRING.replace("05:00:00Z firing", "06:00:00Z resolved")
    assert capsys.readouterr().out == f"{FIRING}\n{resolved}\n"


def test_a_label_cannot_begin_a_line(receiver: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be printed is a question mark."""
    forged = {**ALERT, "annotations": {"summary": "tenure\nmoved\x1b[31m"}}
    httpx.post(receiver, json={"alerts": [forged]})
    assert capsys.readouterr().out == FIRING.replace("tenure moved", "tenure?moved?[31m") + "\n"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"alerts": [1]}', b'{"alerts": [{}]}', json.dumps(ALERT).encode()])
def test_what_is_no_alert_is_refused(receiver: str, body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """With 400, and the receiver lives on."""
    assert httpx.post(receiver, content=body).status_code == 400
    assert capsys.readouterr().out == ""
    assert httpx.get(receiver).status_code == 200


def test_what_is_too_large_is_not_read(receiver: str) -> None:
    """413 from the length alone."""
    assert httpx.post(receiver, content=b"x" * 1_000_001).status_code == 413


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The secrets of a stack."""
    for name in ("broker", "admin", *SECRETS.USERS):
        (tmp_path / name).mkdir()
    SECRETS.make(tmp_path, NOW)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "subject", "names"),
    [("broker/broker.pem", "CN=broker", ["kafka", "localhost"]), ("admin/admin.pem", "CN=admin", [])],
)
def test_certificates_are_of_the_one_authority(made: Path, file: str, subject: str, names: list[str]) -> None:
    """Key and certificate belong together, for a year; the broker's name is what clients call it by."""
    pem = (made / file).read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    (authority,) = {path.read_bytes() for path in made.glob("*/ca.pem")}
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert certificate.subject.rfc4514_string() == subject
    assert certificate.public_key() == load_pem_private_key(pem, None).public_key()
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)
    found = [e.value for e in certificate.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    assert [name for value in found for name in value.get_values_for_type(x509.DNSName)] == names


def test_passwords_are_long_different_and_printed_nowhere(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    """Each user's alone, the same one for the broker, and readable by owner and group only."""
    said = capsys.readouterr().out
    passwords = {user: (made / user / "password").read_text() for user in SECRETS.USERS}
    assert len(set(passwords.values())) == 4
    for user, password in passwords.items():
        assert len(password) == 43
        assert password not in said
        assert (made / "admin" / f"{user}.scram").read_text() == f"SCRAM-SHA-512=iterations=8192,password={password}\n"
        assert (made / user / "password").stat().st_mode & 0o777 == 0o640
    assert "made scorer/password (volume scorer-secrets)\n" in said
