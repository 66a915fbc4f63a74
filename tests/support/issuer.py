"""A token issuer (OIDC client credentials) of one test, and a Kafka that accepts its tokens."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from driftline.local_kafka.broker import _free_port

CLIENT = "driftline"
SECRET = "right & proper"  # noqa: S105 - of a client that lives as long as a test
AUDIENCE = "kafka"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs JWTs (RS256) that live `life` seconds; a context manager.

    certificate: PEM files, certificate and key; tokens are then asked for by TLS, at `token_url`.
    answer: status and body instead of a token. claims: of a token beside its times. asked: the received request forms.
    """

    def __init__(self, life: int = 60, certificate: tuple[Path, Path] | None = None) -> None:
        self.life = life
        self._certificate = certificate
        self.answer: tuple[int, bytes] | None = None
        self.claims: dict[str, Any] = {"aud": AUDIENCE, "sub": CLIENT}
        self.asked: list[dict[str, str]] = []
        self.issued = 0
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token_url = f"{self.url}/token"
        self._tls_port = _free_port()
        if certificate is not None:
            self.token_url = f"https://127.0.0.1:{self._tls_port}/token"
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._servers: list[ThreadingHTTPServer] = []

    def token(self, life: int | None = None) -> str:
        """Return a token that is valid from now on."""
        now = int(time.time())
        claims = {"iss": self.url, "iat": now, "exp": now + (life or self.life), "scope": "kafka", **self.claims}
        header = {"alg": "RS256", "kid": "k1", "typ": "JWT"}
        signed = ".".join(_text(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_text(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def keys(self) -> dict[str, Any]:
        """Return the key set (RFC 7517) that brokers check tokens with."""
        numbers = self._key.public_key().public_numbers()
        n, e = (_text(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
        return {"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "n": n, "e": e}]}

    def respond(self, login: str, form: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body for a token request."""
        self.asked.append(form)
        if self.answer is not None:
            return self.answer
        kind, _, encoded = login.partition(" ")
        pair = base64.b64decode(encoded).decode().split(":", 1)
        if kind != "Basic" or [unquote(part) for part in pair] != [CLIENT, SECRET]:
            return 401, json.dumps({"error": "invalid_client", "error_description": "the secret is wrong"}).encode()
        self.issued += 1
        return 200, json.dumps({"access_token": self.token(), "expires_in": self.life}).encode()

    def go_away(self) -> None:
        """Listen no more."""
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.server_close()

    def come_back(self) -> Self:
        """Listen, on the same port as before."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.give(200, json.dumps(issuer.keys()).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self.give(*issuer.respond(self.headers.get("authorization", ""), dict(parse_qsl(body))))

            def give(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write no line: `asked` has the requests."""

        self._servers = [ThreadingHTTPServer(("127.0.0.1", self.port), Handler)]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            server = ThreadingHTTPServer(("127.0.0.1", self._tls_port), Handler)
            # the handshake is done by the request's own thread
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            self._servers.append(server)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def broker_settings(self) -> dict[str, str]:
        """Return settings of a broker whose SASL_SSL listener accepts these tokens, each until it expires."""
        listener = "listener.name.sasl_ssl"
        kafka = "org.apache.kafka.common.security.oauthbearer"
        oauth = {
            "sasl.jaas.config": f"{kafka}.OAuthBearerLoginModule required;",
            "sasl.server.callback.handler.class": f"{kafka}.OAuthBearerValidatorCallbackHandler",
            "sasl.oauthbearer.jwks.endpoint.url": f"{self.url}/keys",
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "sasl.oauthbearer.expected.issuer": self.url,
            "connections.max.reauth.ms": "3600000",
        }
        return {f"{listener}.sasl.enabled.mechanisms": "OAUTHBEARER"} | {
            f"{listener}.oauthbearer.{name}": value for name, value in oauth.items()
        }

    def broker_options(self) -> str:
        """Return the Java options (JAVA_TOOL_OPTIONS): Kafka calls only addresses that its operator has listed."""
        return f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.url}/keys"

    def __enter__(self) -> Self:
        return self.come_back()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.go_away()
