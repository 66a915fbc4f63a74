"""The Helm chart: its values, names, ports and paths against the code; with helm and kubeconform, its manifests.

With --long, also what a real API server stores and rejects.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support import prometheus_tools
from support.api_server import ApiServer
from support.kubernetes_tools import KUBERNETES, SERVER, need, need_definitions, need_schemas
from typer.testing import CliRunner

from bench.autoscaling import Seen, by_load_and_lag
from deploy import metrics_page
from drift_worker.settings import DriftSettings
from driftline import __version__
from driftline.cli import app
from kafka_runtime.service.setting_types import duration
from schemas.setting_names import KNOWN
from scorer.settings import ScorerSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "driftline"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
# The chart's defaults, and each values file that the document names.
CASES = [None, *EXAMPLES]
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
# Settings that are the chart's own matter: the model's place, the drain, and addresses that probes depend on.
CHARTS_OWN = {
    *("SCORER_MODEL", "SCORER_DRAIN_TIMEOUT"),
    *("SCORER_HTTP_HOST", "SCORER_HTTP_PORT", "DRIFT_HTTP_HOST", "DRIFT_HTTP_PORT"),
}
SETTINGS = {**ScorerSettings.model_fields, **DriftSettings.model_fields}


def _name(case: Path | None) -> str:
    return "defaults" if case is None else case.name


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = copy.deepcopy(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if nested else value
    return out


def _values(case: Path | None) -> dict[str, Any]:
    return _merged(VALUES, yaml.safe_load(case.read_text()) if case is not None else {})


def _templates() -> str:
    return "\n".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))


def _expected_files() -> set[str]:
    """Settings that are files: secrets as NAME_FILE, and paths that are not a bundle's."""
    secrets = {f"{n.upper()}_FILE" for n, field in SETTINGS.items() if "SecretStr" in str(field.annotation)}
    paths = {n.upper() for n in SETTINGS if n.endswith(("file", "public_key"))}
    return secrets | paths


# --- without any tool -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_values_are_what_the_schema_allows(case):
    """The defaults, and each example over them."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(_values(case), SCHEMA)


def test_the_schema_knows_every_value():
    """What values.yaml documents is what may be set, and nothing else."""

    def described(schema: dict[str, Any], values: dict[str, Any], place: str = "") -> None:
        assert schema["additionalProperties"] is False, place
        assert schema["properties"].keys() - {"global"} == values.keys(), place  # global is Helm's own
        for name, inner in schema["properties"].items():
            if "properties" in inner:
                described(inner, values[name], f"{place}.{name}")

    described(SCHEMA, VALUES)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scorer": {"replica": 3}}, "replica"),
        ({"settings": {"KAFKA_BOOTSTRAP_SERVER": "kafka:9092"}}, "KAFKA_BOOTSTRAP_SERVER"),
        ({"scorer": {"settings": {"SCORER_COMMIT_INTERVALL": "50ms"}}}, "SCORER_COMMIT_INTERVALL"),
        ({"files": {"KAFKA_SASL_PASSWORD": {"secret": "s", "key": "k"}}}, "KAFKA_SASL_PASSWORD"),
        ({"settings": {"KAFKA_SASL_PASSWORD": "tiger"}}, "KAFKA_SASL_PASSWORD"),
        ({"files": {"KAFKA_SSL_CAFILE": {"configmap": "s", "key": "k"}}}, "configmap"),
        ({"model": {"from": "image", "image": ""}}, "image"),
        ({"topics": {"create": "hook"}}, "hook"),
    ],
)
def test_a_misspelt_value_is_named(change, named):
    """Nothing that somebody sets is without effect."""
    (error, *_) = jsonschema.Draft7Validator(SCHEMA).iter_errors(_merged(VALUES, change))
    assert named in f"{error.message} {list(error.absolute_path)}"


def test_every_setting_can_be_set_in_one_place():
    """As text, as a file, or by the chart itself."""
    text = set(SCHEMA["definitions"]["settings"]["propertyNames"]["enum"])
    files = set(SCHEMA["definitions"]["files"]["propertyNames"]["enum"])
    assert files == _expected_files()
    of_files = {name if name in KNOWN else name.removesuffix("_FILE") for name in files}
    assert text | of_files | CHARTS_OWN == KNOWN
    assert not text & of_files
    assert not text & CHARTS_OWN


def test_names_ports_and_paths_are_the_codes():
    """Of the templates' own variables, containers, probes and series."""
    templates = _templates()
    assert set(re.findall(r'"?\b((?:SCORER|DRIFT|KAFKA|TOPIC)_[A-Z_]+)\b', templates)) <= KNOWN
    ports = {int(port) for port in re.findall(r'"port" (\d+)', templates)}
    assert ports == {ScorerSettings().scorer_http_port, DriftSettings().drift_http_port}
    source = (ROOT / "kafka_runtime" / "service" / "http.py").read_text()
    paths = set(re.findall(r"path: (/[a-z]+), ", templates))
    assert paths == {"/livez", "/readyz", "/metrics"}
    assert all(f'@app.get("{path}"' in source for path in paths)
    series = set(re.findall(r"driftline_[a-z_]+", (CHART / "templates" / "autoscaling.yaml").read_text()))
    assert series
    assert series <= metrics_page.exported().keys()
    jobs = set(re.findall(r'job="([a-z-]+)"', "".join(p.read_text() for p in (CHART / "files" / "rules").iterdir())))
    assert jobs == set(re.findall(r'"component" "(scorer|drift-worker)"', templates))


def test_rules_and_dashboards_are_the_same_files_as_composes():
    """A link each: what pages in Compose pages in Kubernetes."""
    assert (CHART / "files" / "rules").resolve() == ROOT / "deploy" / "prometheus" / "rules"
    assert (CHART / "files" / "dashboards").resolve() == ROOT / "deploy" / "grafana" / "dashboards"


def test_the_chart_has_the_versions_of_the_package():
    """Of the chart and of the images that it starts."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_scaling_waits_longer_than_a_session():
    """Else it would follow the rebalances that it has caused itself."""
    session_s = ScorerSettings().kafka_session_timeout.total_seconds()
    scaling = VALUES["autoscaling"]
    assert min(scaling[n] for n in scaling if n.endswith(("StabilizationSeconds", "cooldownSeconds"))) > session_s


def test_the_document_names_every_example():
    """And no other."""
    assert set(re.findall(r"examples/([\w.-]+\.yaml)", DOCUMENT)) == {path.name for path in EXAMPLES}


# --- with helm and kubeconform --------------------------------------------------------------------------------------


def _helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [need("helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@cache
def _template(case: Path | None, *options: str) -> str:
    options = (*options, *(("--values", str(case)) if case is not None else ()))
    done = _helm("template", "demo", str(CHART), "--kube-version", KUBERNETES.says, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _manifests(case: Path | None) -> list[dict[str, Any]]:
    return [manifest for manifest in yaml.safe_load_all(_template(case)) if manifest]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_helm_finds_nothing_to_complain_about(case):
    """Linted strictly."""
    done = _helm("lint", "--strict", str(CHART), *(("--values", str(case)) if case is not None else ()))
    assert done.returncode == 0, done.stdout + done.stderr


def _conforms(manifests: str) -> dict[str, Any]:
    """What kubeconform says."""
    command = [need("kubeconform"), "-strict", "-output", "json", "-summary"]
    command += ["-schema-location", f"{need_schemas()}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False, timeout=120)
    return json.loads(done.stdout)


def test_the_manifests_are_valid():
    """Of every case, against the descriptions of Kubernetes, KEDA and the Prometheus operator; none is skipped."""
    manifests = "\n---\n".join(_template(case) for case in CASES)
    found = _conforms(manifests)
    assert found["resources"] == [], found["resources"]
    counted = found["summary"]
    assert counted["valid"] == len([m for m in yaml.safe_load_all(manifests) if m])
    assert counted["invalid"] + counted["errors"] + counted["skipped"] == 0


def test_a_misspelt_field_of_a_manifest_is_named():
    """The schemas are closed: of Kubernetes' own resources and of others'."""
    manifests = _template(CHART / "examples" / "oauth.yaml")
    wrong = {
        "terminationGracePeriodSeconds": "terminationGracePeriodSecond",
        "metricType": "metricsType",
        "podMetricsEndpoints": "podMetricsEndpoint",
    }
    for right, misspelt in wrong.items():
        assert f" {right}:" in manifests
        manifests = manifests.replace(f" {right}:", f" {misspelt}:")
    found = _conforms(manifests)["resources"]
    assert {r["kind"] for r in found} == {"Deployment", "ScaledObject", "PodMonitor"}
    assert all(misspelt in json.dumps(found) for misspelt in wrong.values())


def test_helm_names_a_misspelt_value():
    """By the schema that is in the chart."""
    done = _helm("template", "demo", str(CHART), "--kube-version", KUBERNETES.says, "--set", "scorer.replica=3")
    assert done.returncode != 0
    assert "replica" in done.stderr.replace("replicas", "")


def _pods(case: Path | None) -> dict[str, dict[str, Any]]:
    found = {}
    for manifest in _manifests(case):
        if manifest["kind"] in {"Deployment", "Job"}:
            pod = manifest["spec"]["template"]
            found[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod["spec"]
    return found


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_every_pod_is_restricted(case):
    """As the Pod Security Standards want it, and with nothing that looks like a setting and is none."""
    for pod in _pods(case).values():
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "image", "projected"}


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_every_variable_is_one_that_the_services_read(case, tmp_path):
    """Read by the settings' own classes, as --print-settings does; files are there under the paths that are named."""
    for component, pod in _pods(case).items():
        (container,) = pod["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        projected = [s for v in pod["volumes"] if "projected" in v for s in v["projected"]["sources"]]
        paths = {item["path"] for source in projected for kind in source.values() for item in kind.get("items", [kind])}
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
        named = {name for name, value in environment.items() if value.startswith("/run/driftline/")}
        assert named == paths
        assert all(environment[name] == f"{mounted['files']}/{name}" for name in named)
        for name in named:
            environment[name] = str(tmp_path / name)
            (tmp_path / name).write_text("any text is a secret")
        certificates = {n: environment.pop(n) for n in ("KAFKA_SSL_CAFILE",) if n in environment}
        assert certificates.keys() <= KNOWN
        foreign = {entry["name"] for entry in _values(case)["env"]}
        kind = DriftSettings if component == "drift-worker" else ScorerSettings
        kind.read({n: v for n, v in environment.items() if n not in foreign}, KNOWN)
        unknown = {
            n for n in environment if n not in foreign and n not in KNOWN and n.removesuffix("_FILE") not in KNOWN
        }
        assert unknown == set()


def test_a_pod_has_more_time_than_its_service_takes_to_stop():
    """Or it is killed while it drains."""
    for component, pod in _pods(None).items():
        if component == "topics":
            continue
        (container,) = pod["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert pod["terminationGracePeriodSeconds"] > duration(environment["SCORER_DRAIN_TIMEOUT"]).total_seconds() + 5


def test_scaling_has_a_ceiling_and_leaves_the_number_to_keda():
    """As many scorers as there are partitions; Helm sets no number that KEDA would have to fight."""
    manifests = _manifests(CHART / "examples" / "oauth.yaml")
    (scaled,) = (m for m in manifests if m["kind"] == "ScaledObject")
    assert scaled["spec"]["maxReplicaCount"] == VALUES["topics"]["partitions"]
    scorer = next(m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == "demo-scorer")
    assert scaled["spec"]["scaleTargetRef"]["name"] == scorer["metadata"]["name"]
    assert "replicas" not in scorer["spec"]


@pytest.mark.parametrize(
    ("arriving", "lag_s", "replicas"),
    [(10_000, 0, [1, 0]), (120_000, 0, [3, 0]), (290_000, 1, [6, 0]), (310_000, 31, [12, 12]), (9_000_000, 0, [12, 0])],
)
def test_the_triggers_ask_for_the_replicas_that_the_simulation_has(arriving, lag_s, replicas, tmp_path):
    """Evaluated by Prometheus' own promtool, and by bench/autoscaling.py."""
    manifests = _manifests(CHART / "examples" / "oauth.yaml")
    (scaled,) = (m for m in manifests if m["kind"] == "ScaledObject")
    triggers = scaled["spec"]["triggers"]
    assert {t["metadata"]["threshold"] for t in triggers} == {"1"}
    rules = [{"record": f"asked:{t['name']}", "expr": t["metadata"]["query"]} for t in triggers]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    labels = 'namespace="default", topic="customer-events", partition="0"'
    series = {
        f"driftline_scorer_consumed_records_total{{{labels}}}": f"0+{arriving * 15}x40",
        f"driftline_scorer_lag_records{{{labels}}}": "0x40",
        f"driftline_scorer_lag_seconds{{{labels}}}": f"{lag_s}x40",
    }
    expected = [
        {"expr": rule["record"], "eval_time": "9m", "exp_samples": [{"labels": rule["record"], "value": value}]}
        for rule, value in zip(rules, replicas, strict=True)
    ]
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expected,
    }
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [test]}))
    command = [prometheus_tools.need("promtool"), "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = Seen(arriving=arriving, lag_s=lag_s, lag_records=0, replicas=2)
    scaling = VALUES["autoscaling"]
    rule = by_load_and_lag(VALUES["topics"]["partitions"], scaling["eventsPerSecond"], scaling["lagSeconds"])
    assert rule(seen) == max(replicas)


def test_rules_and_dashboards_arrive_unchanged():
    """But for the runbook's address, which must lead somewhere."""
    manifests = _manifests(None)
    rules = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "PrometheusRule"}
    for path in (CHART / "files" / "rules").iterdir():
        text = path.read_text().replace("docs/runbook.md", VALUES["monitoring"]["runbookUrl"])
        assert rules.pop(f"demo-driftline-{path.stem}") == yaml.safe_load(text)
    assert rules == {}
    shown = {n: json.loads(t) for m in manifests if m["kind"] == "ConfigMap" for n, t in m["data"].items()}
    assert shown == {p.name: json.loads(p.read_text()) for p in (CHART / "files" / "dashboards").iterdir()}


# --- with an API server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real one, which knows the resources of KEDA, of the Prometheus operator and of Strimzi."""
    if not request.config.getoption("--long"):
        pytest.skip("an API server, which takes half a minute: make chart SERVER=1")
    definitions = need_definitions()
    for program in SERVER:
        need(program)
    with ApiServer(tmp_path_factory.mktemp("server")) as server:
        assert server.version == KUBERNETES.says
        for definition in definitions:
            server.define(definition)
        yield server


def _stored(answer: Any) -> dict[str, Any]:
    """What the server made of a manifest, without a complaint."""
    assert answer.status_code in {200, 201}, answer.text
    assert "warning" not in answer.headers, answer.headers["warning"]
    return answer.json()


def _templates_of_pods(case: Path | None) -> list[dict[str, Any]]:
    return [m["spec"]["template"] for m in _manifests(case) if m["kind"] in {"Deployment", "Job"}]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_an_api_server_takes_what_the_chart_renders(case, server):
    """With strict fields, in a namespace of restricted pods; a second time changes nothing; the pods are admitted."""
    namespace = server.restricted(_name(case).removesuffix(".yaml"))
    stored = [_stored(server.apply(manifest, namespace)) for manifest in _manifests(case)]
    again = [_stored(server.apply(manifest, namespace)) for manifest in _manifests(case)]
    assert [m["metadata"]["resourceVersion"] for m in again] == [m["metadata"]["resourceVersion"] for m in stored]
    for template in _templates_of_pods(case):
        pod = _stored(server.create_pod(template, namespace))
        assert pod["spec"]["serviceAccountName"] == "demo-driftline"


def test_an_api_server_takes_what_is_printed_for_strimzi(server):
    """Every topic and every user."""
    options = ("--cluster", "prod", "--partitions", "12", "--replication-factor", "3", "--min-isr", "2")
    done = CliRunner().invoke(app, ["topics", "create", "--print", "strimzi", *options])
    assert done.exit_code == 0, done.output
    namespace, printed = server.restricted("kafka"), list(yaml.safe_load_all(done.output))
    stored = [_stored(server.apply(resource, namespace)) for resource in printed]
    assert {resource["kind"] for resource in stored} == {"KafkaTopic", "KafkaUser"}
    topic = next(resource for resource in printed if resource["kind"] == "KafkaTopic")
    topic["spec"]["partition"] = topic["spec"].pop("partitions")
    refused = server.apply(topic, namespace, dry_run=True)
    assert refused.status_code >= 400, refused.text
    assert "spec.partition: field not declared" in refused.text


@pytest.mark.parametrize(
    ("kind", "right", "misspelt"),
    [
        ("Deployment", "terminationGracePeriodSeconds", "terminationGracePeriodSecond"),
        ("ScaledObject", "metricType", "metricsType"),
        ("PodMonitor", "podMetricsEndpoints", "podMetricsEndpoint"),
        ("PrometheusRule", "annotations", "annotation"),
    ],
)
def test_an_api_server_names_a_misspelt_field(kind, right, misspelt, server):
    """Of Kubernetes' own resources and of others'."""
    manifest = next(m for m in _manifests(CHART / "examples" / "oauth.yaml") if m["kind"] == kind)
    wrong = json.loads(json.dumps(manifest).replace(f'"{right}":', f'"{misspelt}":'))
    refused = server.apply(wrong, "default", dry_run=True)
    assert refused.status_code >= 400, refused.text
    assert misspelt in refused.text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hostNetwork": True}, "host namespaces"),
        ({"securityContext": {"runAsNonRoot": False}}, "runAsNonRoot"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/tmp"}}]}, "hostPath"),  # noqa: S108 - is refused
    ],
)
def test_an_api_server_refuses_a_pod_that_is_not_restricted(change, named, server):
    """So the check above means something; whoever applies its Deployment is warned."""
    namespace, manifests = server.restricted("wrong"), _manifests(None)
    account = next(m for m in manifests if m["kind"] == "ServiceAccount")
    _stored(server.apply(account, namespace))
    deployment = next(m for m in manifests if m["kind"] == "Deployment")
    _stored(server.create_pod(deployment["spec"]["template"], namespace))
    volumes = deployment["spec"]["template"]["spec"]["volumes"] + change.get("volumes", [])
    wrong = _merged(deployment, {"spec": {"template": {"spec": {**change, "volumes": volumes}}}})
    refused = server.create_pod(wrong["spec"]["template"], namespace)
    assert refused.status_code == 403, refused.text
    assert "violates PodSecurity" in refused.text
    assert named in refused.text
    assert named in server.apply(wrong, namespace, dry_run=True).headers["warning"]
