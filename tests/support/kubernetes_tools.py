"""helm, kubeconform, and the schemas that manifests are checked with: out of Go modules, without a cluster.

`make chart` fills the cache, which takes minutes, once. A tool is what the environment names (HELM=/path,
KUBECONFORM=), else what is in the cache, else the one on the PATH.
"""

from __future__ import annotations

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
    if named := os.environ.get(name.upper()):
        return Path(named)
    if (cached := cache() / name).is_file():
        return cached
    return Path(found) if (found := shutil.which(name)) else None


def need(name: str) -> str:
    """The program; the test is skipped where there is none."""
    found = find(name)
    if found is None:
        pytest.skip(f"no {name} here: make chart builds it with Go; or name one with {name.upper()}=/path")
    return str(found)


def need_schemas() -> Path:
    """The folder with the schemas; the test is skipped where they were not made."""
    if not (cache() / "schemas").is_dir():
        pytest.skip("no schemas of Kubernetes here: make chart makes them with Go")
    return cache() / "schemas"


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
    document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
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
    try:
        build()
    except (UnavailableError, OSError) as error:
        sys.stderr.write(f"make: the chart is checked without helm and kubeconform: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
