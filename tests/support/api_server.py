"""A Kubernetes API server with its etcd, on 127.0.0.1, for one test: what it stores and what it rejects.

Nothing else of a cluster runs: no controller, no scheduler, no node. So a Deployment is stored and has no pods.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from support.kubernetes_tools import need
from support.processes import running
from support.secured import Authority
from support.services import free_port
from support.waiting import wait_until

START_S = 180.0
LEVELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


class ApiServer:
    """etcd and kube-apiserver as a context manager, with data, certificates and an administrator of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._authority = Authority(folder)
        self._plurals: dict[tuple[str, str], str] = {}
        token, port = secrets.token_hex(16), free_port()
        (folder / "tokens.csv").write_text(f"{token},administrator,1,system:masters\n")
        self._url = f"https://127.0.0.1:{port}"
        self._port = port
        self._client = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=str(self._authority.ca)),
            timeout=60,
        )

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> Self:
        self._stack.enter_context(self._client)
        etcd, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._run(
            "etcd",
            data_dir=self._folder / "etcd",
            listen_client_urls=etcd,
            advertise_client_urls=etcd,
            listen_peer_urls=peers,
            initial_advertise_peer_urls=peers,
            initial_cluster=f"default={peers}",
            unsafe_no_fsync="true",
        )
        certificate, key = self._authority.issue("apiserver")
        verifying, signing = self._authority.issue("accounts")
        self._run(
            "kube-apiserver",
            etcd_servers=etcd,
            bind_address="127.0.0.1",
            secure_port=self._port,
            service_cluster_ip_range="10.96.0.0/16",
            tls_cert_file=certificate,
            tls_private_key_file=key,
            cert_dir=self._folder,
            token_auth_file=self._folder / "tokens.csv",
            authorization_mode="RBAC",
            service_account_issuer=self._url,
            service_account_key_file=verifying,
            service_account_signing_key_file=signing,
        )
        wait_until(self._ready, "the API server is ready", START_S)
        return self

    def _run(self, name: str, **options: object) -> None:
        command = [need(name), *(f"--{option.replace('_', '-')}={value}" for option, value in options.items())]
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        self._stack.enter_context(running(command, stdout=log, stderr=log, cwd=self._folder, env=environment))

    def _ready(self) -> bool:
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def version(self) -> str:
        """The server's own, without the `v`."""
        return str(self._client.get("/version").json()["gitVersion"]).removeprefix("v")

    def define(self, definition: dict[str, Any]) -> None:
        """Install a CustomResourceDefinition, and wait until its resources are served."""
        answer = self._client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
        assert answer.status_code == 201, answer.text
        place = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"

        def served() -> bool:
            conditions = self._client.get(place).json().get("status", {}).get("conditions") or []
            return {"Established", "NamesAccepted"} <= {c["type"] for c in conditions if c["status"] == "True"}

        wait_until(served, f"{definition['metadata']['name']} is served", 60)

    def restricted(self, name: str) -> str:
        """Make a namespace, once, whose pods are restricted; a Deployment of other pods is answered with a warning."""
        metadata = {"name": name, "labels": LEVELS}
        answer = self._client.post("/api/v1/namespaces", json={"metadata": metadata})
        assert answer.status_code in {201, 409}, answer.text  # 409: it is there
        return name

    def apply(self, manifest: dict[str, Any], namespace: str, *, dry_run: bool = False) -> httpx.Response:
        """Apply on the server, with every unknown or doubled field an error."""
        options = {"fieldManager": "helm", "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._client.patch(
            f"{self._place(manifest, namespace)}/{manifest['metadata']['name']}",
            params=options,
            content=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def create_pod(self, template: dict[str, Any], namespace: str) -> httpx.Response:
        """Ask for a pod as a controller would, without one: `template` is that of a Deployment or a Job."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "generateName": "pod-"},
            "spec": template["spec"],
        }
        options = {"fieldValidation": "Strict", "dryRun": "All"}
        return self._client.post(self._place(pod, namespace), params=options, json=pod)

    def _place(self, manifest: dict[str, Any], namespace: str) -> str:
        version, kind = manifest["apiVersion"], manifest["kind"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._plurals:
            for known in self._client.get(base).raise_for_status().json()["resources"]:
                if "/" not in known["name"]:
                    self._plurals[version, known["kind"]] = known["name"]
        return f"{base}/namespaces/{namespace}/{self._plurals[version, kind]}"
