"""Guarantees of the Compose files, read without an engine: `make smoke` checks the same in the running containers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.secured import documented_acls

from driftline.demo.pipeline import DRIFT_PROFILE
from driftline.local_kafka.jars import KAFKA_VERSION
from schemas.setting_names import Topics
from scorer.settings import ScorerSettings

VARIANTS = ("", "secure", "cluster")
# Containers that end by themselves, or have no endpoint for a check.
WITHOUT_HEALTH = {"topics-init", "model-init", "secrets-init", "access-init", "driftline", "producer"}
PRINCIPALS = {
    "scorer": ["Scorer"],
    "drift-worker": ["Drift worker"],
    "upstream": ["Upstream producer"],
    "operator": [
        "driftline topics check",
        "driftline topics create",
        "driftline verify",
        "driftline compare, export",
        "driftline dead-letters show, count",
        "driftline dead-letters redrive",
        "driftline skip",
        "driftline alerts tail",
        "driftline backtest, report",
    ],
}


class _Instead(list):
    """A list that replaces the one of the file below, instead of being added to it."""


class _Loader(yaml.SafeLoader):
    """YAML with Compose's own tag."""


_Loader.add_constructor("!override", lambda loader, node: _Instead(loader.construct_sequence(node)))


def _read(name: str) -> dict[str, Any]:
    return yaml.load(Path(name).read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader with one more tag


BASE = _read("docker-compose.yml")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As Compose merges two definitions of a service, as far as these files need it."""
    out = dict(below)
    for name, value in above.items():
        old = out.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            out[name] = old | value
        elif isinstance(value, list) and isinstance(old, list) and name in {"volumes", "ports"}:
            out[name] = value if isinstance(value, _Instead) else [*old, *value]
        else:
            out[name] = value
    return out


def _services(variant: str) -> dict[str, dict[str, Any]]:
    services = dict(BASE["services"])
    for name, above in _read(f"compose.{variant}.yml")["services"].items() if variant else ():
        below = BASE["services"][above["extends"]["service"]] if "extends" in above else services[name]
        services[name] = _merged(below, above)
    return services


EVERY = [
    pytest.param(service | {"name": name}, id=f"{variant or 'plain'}-{name}")
    for variant in VARIANTS
    for name, service in _services(variant).items()
]


def _mebibytes(text: str) -> int:
    return int(text[:-1]) * {"m": 1, "g": 1024}[text[-1]]


@pytest.mark.parametrize("service", EVERY)
def test_every_service_is_hardened(service: dict[str, Any]) -> None:
    """Not root, nothing writable but what is named, no capabilities, no way to get any, and limits to everything."""
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert service["read_only"] is True
    assert any(mount.startswith("/tmp:size=") for mount in service["tmpfs"])  # noqa: S108
    assert all("size=" in mount for mount in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert not service.keys() & {"privileged", "pid", "ipc", "devices"}
    assert 0 < service["pids_limit"] <= 512
    assert 0 < service["cpus"] <= 2
    assert 64 <= _mebibytes(service["mem_limit"]) <= 1024
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


@pytest.mark.parametrize("service", EVERY)
def test_ports_are_published_on_this_machine_only(service: dict[str, Any]) -> None:
    """On 127.0.0.1, and only by services that are on the network for it."""
    ports = service.get("ports", [])
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+(-\d+)?:\d+", port) for port in ports)
    assert bool(ports) == ("published" in service.get("networks", []))
    if not ports:
        assert service.get("network_mode", "none") == "none"  # else on `default`


def test_the_networks_have_no_way_out() -> None:
    """One is internal, and from the other no packet leaves under this machine's address."""
    assert BASE["networks"]["default"] == {"internal": True}
    assert BASE["networks"]["published"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert all("networks" not in _read(f"compose.{variant}.yml") for variant in VARIANTS if variant)


@pytest.mark.parametrize("service", EVERY)
def test_images_are_pinned(service: dict[str, Any]) -> None:
    """By a tag with a version and perhaps a digest; ours by a tag that can be set. The broker is the tests' own."""
    image, _, digest = service["image"].partition("@")
    repository, tag = image.split(":", 1)
    assert re.fullmatch(r"(sha256:[0-9a-f]{64})?", digest)
    if repository.startswith("driftline-"):
        assert tag == "${DRIFTLINE_TAG:-dev}"
    else:
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
    assert repository != "apache/kafka" or tag == KAFKA_VERSION


@pytest.mark.parametrize("name", ["scorer", "drift"])
def test_a_base_image_can_be_given_by_digest(name: str) -> None:
    """Every stage starts from the one argument, whose default is the tag; the image says what it was made from."""
    text = Path(f"Dockerfile.{name}").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 3
    assert "ARG PYTHON_IMAGE=python:${PYTHON_VERSION}-slim\n" in text
    assert 'org.opencontainers.image.base.name="${PYTHON_IMAGE}"' in text
    assert all("PYTHON_IMAGE" in BASE["services"][service]["build"]["args"] for service in ("scorer", "drift-worker"))


@pytest.mark.parametrize("service", EVERY)
def test_every_service_that_stays_has_a_health_check(service: dict[str, Any]) -> None:
    """In exec form, here or in its Dockerfile."""
    check = service.get("healthcheck")
    if service["name"] in WITHOUT_HEALTH:
        assert check == {"disable": True}
    elif check is None:
        dockerfile = Path(service["build"]["dockerfile"]).read_text(encoding="utf-8")
        assert re.search(r"^HEALTHCHECK .*\\\n +CMD \[", dockerfile, re.MULTILINE)
    else:
        assert check["test"][0] == "CMD"


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_ends_ends_well_before_others_start(variant: str) -> None:
    """Every one-shot has a dependant that waits for it, otherwise `up --wait` would report a failure."""
    services = _services(variant)
    awaited = {
        other
        for service in services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert awaited == {name for name in services if name.endswith("-init")}


def test_a_container_has_longer_than_a_drain_takes() -> None:
    """Else Docker would kill a scorer in the middle of a batch."""
    drain_s = ScorerSettings.read({}, frozenset()).scorer_drain_timeout.total_seconds()
    for name in ("scorer", "drift-worker"):
        assert int(BASE["services"][name]["stop_grace_period"].removesuffix("s")) > drain_s


@pytest.mark.parametrize("service", EVERY)
def test_no_password_stands_in_a_file(service: dict[str, Any]) -> None:
    """Only the path of a file is given for a secret; Grafana has no login."""
    environment = service.get("environment", {})
    secret = {n for n in environment if re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL|HASH_KEY", n)}
    assert all(n.endswith("_FILE") for n in secret)
    if service["name"] == "grafana":
        assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
        assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
        assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
        assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_every_principal_of_the_secured_variant_has_its_secrets_alone() -> None:
    """Who logs in as whom mounts that volume, read-only and without what an image has there."""
    users = {}
    for name, service in _services("secure").items():
        volumes = [v for v in service.get("volumes", ()) if "-secrets:" in v]
        if name == "secrets-init":
            folders = [v.split(":")[1] for v in volumes]
            made = re.sub(r"\\\n *", "", Path("Dockerfile.scorer").read_text(encoding="utf-8"))
            assert re.search(r"--mode=750 (.*)", made)[1].split() == folders
        elif volumes:
            (volume,) = volumes
            source, _, how = volume.split(":")
            assert how == "ro,nocopy"
            users[name] = source.removesuffix("-secrets")
            login = service["environment"].get("KAFKA_SASL_USERNAME")
            assert login in {None, users[name]}
    assert users == {
        "kafka": "broker", "access-init": "admin", "topics-init": "operator", "driftline": "operator",
        "scorer": "scorer", "drift-worker": "drift-worker", "producer": "upstream",
    }  # fmt: skip


def _access() -> set[tuple[str, str, str, str, bool]]:
    """(principal, operation, resource type, name, prefixed) of every ACL in access.sh."""
    script = Path("deploy/secure/access.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    out = set()
    for line in re.findall(r"^acl (--.*)$", script, re.MULTILINE):
        words = shlex.split(line)
        options = list(zip(words[::2], words[1::2], strict=True))
        prefixed = ("--resource-pattern-type", "prefixed") in options
        (principal,) = (value for name, value in options if name == "--allow-principal")
        for kind, resource in options:
            if kind in {"--topic", "--group", "--transactional-id"}:
                operations = [value for name, value in options if name == "--operation"]
                out |= {(principal, operation, kind[2:], resource, prefixed) for operation in operations}
    return out


def test_the_secured_variant_allows_what_the_document_lists() -> None:
    """Line by line, and nothing else."""
    topics = {field.upper(): getattr(Topics(), field) for field in Topics.model_fields}
    names = SimpleNamespace(environment=topics | {"SCORER_GROUP": "driftline-scorer", "DRIFT_GROUP": "driftline-drift"})
    documented = {
        (
            acl.principal,
            acl.operation.name.title().replace("_", ""),
            acl.restype.name.lower().replace("_", "-"),
            acl.name,
            acl.resource_pattern_type.name == "PREFIXED",
        )
        for user, sections in PRINCIPALS.items()
        for section in sections
        for acl in documented_acls(section, names, user)
    }
    assert _access() == documented


def test_the_demos_windows_are_those_of_the_other_demo() -> None:
    """`driftline demo` and the demo in containers are one."""
    lines = Path("deploy/demo/demo.env").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name: value for name, value in settings.items() if name.startswith("DRIFT_")} == DRIFT_PROFILE
    assert Path(settings["DRIFTLINE_ENV"]).is_file()


@pytest.mark.parametrize("path", sorted(Path(".github/workflows").glob("*.yml")), ids=str)
def test_workflows_run_what_is_pinned_with_least_permissions(path: Path) -> None:
    """Every action by its full commit with the version beside it; no job may write; no credentials are left."""
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)$", text, re.MULTILINE)
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", ["Dockerfile.scorer", "Dockerfile.drift"])
def test_the_images_take_boosters_and_private_packages(name: str) -> None:
    """LightGBM's wheel needs the system's libgomp; a folder of wheels is in the build context, and pip looks there."""
    text = Path(name).read_text(encoding="utf-8")
    build, served = text.split("FROM ${PYTHON_IMAGE}\n")
    assert "libgomp1" in served
    assert re.search(r"install --constraint constraints.txt --find-links wheels \\\n *\$EXTRA_REQUIREMENTS", build)
    assert "!wheels" in Path(".dockerignore").read_text(encoding="utf-8").splitlines()
