"""Hot reload on a running scorer: ten new bundles under load, and every kind of bad one (docs/delivery.md)."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from pathlib import Path

import joblib
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.oracle import Sent, assert_exactly_once
from support.services import Service
from support.stage import Stage
from support.waiting import wait_until

from schemas.bundle.files import write_bundle
from schemas.bundle.manifest import parse_manifest
from schemas.features import Layout
from scorer.model import load

RELOADS = 10
DEADLINE_S = 60.0


def _write_version(original: Path, directory: Path, number: int, **changes: object) -> None:
    """The original's bundle as version 1.1.<number>, with an intercept and so with different probabilities."""
    manifest = parse_manifest((original / "manifest.json").read_bytes())
    estimator = joblib.load(original / "model.joblib")
    estimator[-1].intercept_ = estimator[-1].intercept_ + 0.05 * number
    columns = Layout(manifest.features).columns(
        [[row.get(f.name) for row in manifest.golden.rows] for f in manifest.features]
    )
    golden = manifest.golden.model_copy(
        update={"probabilities": tuple(estimator.predict_proba(columns.frame())[:, 1].tolist())}
    )
    out = io.BytesIO()
    joblib.dump(estimator, out)
    new = manifest.model_copy(update={"version": f"1.1.{number}", "golden": golden, **changes})
    write_bundle(
        directory, new, {"model.joblib": out.getvalue(), "reference.npz": (original / "reference.npz").read_bytes()}
    )


def _wait(what: str, scorer: Service, met: object) -> dict:
    """Wait for this state in /health; return its answer."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        health = scorer.get("/health").json()
        if met(health):
            return health
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}: {health['model']}, {health['reload']}\n{scorer.tail()}")


class Load(threading.Thread):
    """Customers at a steady pace, about 500 a second, until it is ended."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self.sent = Sent()
        self._stage = stage
        self._source = stage.source()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self._stage.send_from(self._source, 25, self.sent)

    def end(self) -> Sent:
        self._ended.set()
        self.join(30)
        assert not self.is_alive()
        return self.sent


def _last_version(stage: Stage) -> str:
    """The model version of the answer that was seen last."""
    return dict(stage.reader.answers[-1].headers)["driftline-model-version"].decode()


def test_ten_reloads_under_load_lose_nothing_and_every_prediction_names_its_own_version(stage: Stage) -> None:
    """Each version's probabilities are under its name only, versions never go back, and scoring never pauses."""
    versions = {}
    bundle = stage.folder / "model"
    shutil.copytree(stage.bundle, bundle)
    versions["1.0.0"] = load(bundle, None)
    with stage.scorer(SCORER_MODEL=str(bundle), SCORER_MODEL_POLL="100ms") as scorer:
        scorer.wait_ready()
        rebalances = scorer.metric("driftline_scorer_rebalances_total")
        load_thread = Load(stage)
        load_thread.start()
        stage.reader.wait_for(200)
        for number in range(1, RELOADS + 1):
            _write_version(stage.bundle, bundle, number)
            version = f"1.1.{number}"
            versions[version] = load(bundle, None)
            _wait(version, scorer, lambda health, v=version: health["model"]["version"] == v)
            wait_until(lambda v=version: _last_version(stage) == v, f"{version} answers")
        sent = load_thread.end()
        stage.reader.wait_for(len(sent.records))
        # the same process in the same generation of its group: scoring did not wait for a start or a rebalance
        assert scorer.metric("driftline_scorer_rebalances_total") == rebalances
        assert scorer.metric("driftline_scorer_model_reloads_total", outcome="loaded") == RELOADS
        assert scorer.metric("driftline_scorer_model_reloads_total", outcome="refused") == 0
        assert scorer.metric("driftline_model_info") == 1
        assert scorer.metric("driftline_model_info", version=f"1.1.{RELOADS}") == 1
        assert scorer.stop() == 0
    answers = stage.reader.answers
    assert_exactly_once(sent, answers)
    assert {a.topic for a in answers} == {stage.names.predictions}

    by_version: dict[str, list[tuple[dict, float]]] = {}
    last: dict[int, int] = {}
    for answer in sorted(answers, key=lambda a: (a.partition, a.offset)):
        prediction = json.loads(answer.value)
        version = prediction["model"]["version"]
        assert dict(answer.headers)["driftline-model-version"] == version.encode()
        number = list(versions).index(version)
        assert number >= last.get(answer.partition, 0), "an older model answered after a newer one"
        last[answer.partition] = number
        event = json.loads(sent.records[answer.source][1])
        by_version.setdefault(version, []).append((event["features"], prediction["probability"]))
    assert set(by_version) == set(versions), "a version answered nothing"
    for version, answered in by_version.items():
        model = versions[version]
        features = model.manifest.features
        columns = Layout(features).columns([[row.get(f.source) for row, _ in answered] for f in features])
        assert model.predict(columns).tolist() == [p for _, p in answered], version


def _features(original: Path, directory: Path) -> None:
    manifest = parse_manifest((original / "manifest.json").read_bytes())
    required = [f.model_copy(update={"nullable": False}) if f.name == "total_charges" else f for f in manifest.features]
    _write_version(original, directory, 3, features=tuple(required))


def _raises(original: Path, directory: Path) -> None:
    """A model whose unpickling raises, under hashes that are right."""
    manifest = parse_manifest((original / "manifest.json").read_bytes())
    raising = b"cbuiltins\nint\n(S'no number'\ntR."
    write_bundle(
        directory,
        manifest.model_copy(update={"version": "1.1.1"}),
        {"model.joblib": raising, "reference.npz": (original / "reference.npz").read_bytes()},
    )


def _truncated(original: Path, directory: Path) -> None:
    _write_version(original, directory, 1)
    path = directory / "model.joblib"
    path.write_bytes(path.read_bytes()[:-100])


def _wrong_hash(original: Path, directory: Path) -> None:
    _write_version(original, directory, 2)
    path = directory / "reference.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _install(source: Path, directory: Path) -> None:
    """Put a bundle in another one's place, the manifest first: no reader sees the unspoilt one.

    Each has a separate model, so no mixture of two of them is a good bundle either. With the manifest last, a good
    reference would for a moment complete the bundle that was rejected for its reference.
    """
    for name in ("manifest.json", "reference.npz", "model.joblib"):
        (source / name).replace(directory / name)


DEFECTS = [
    (_truncated, "model.joblib: "),
    (_wrong_hash, "reference.npz: sha256 differs"),
    (_features, "restart with producers updated: total_charges"),
    (_raises, "model.joblib: cannot be loaded: ValueError"),
]


@pytest.mark.row(19)
def test_bad_bundles_are_refused_one_after_the_other_and_the_old_model_answers(stage: Stage) -> None:
    """Truncated, wrong hash, other features, raising: /health names each, nothing is lost, a good one ends it."""
    bundle = stage.folder / "model"
    shutil.copytree(stage.bundle, bundle)
    with stage.scorer(SCORER_MODEL=str(bundle), SCORER_MODEL_POLL="100ms") as scorer:
        scorer.wait_ready()
        load_thread = Load(stage)
        load_thread.start()
        for spoil, words in DEFECTS:
            before = scorer.metric("driftline_scorer_model_reloads_total", outcome="refused")
            spoil(stage.bundle, stage.folder / "spoilt")
            _install(stage.folder / "spoilt", bundle)
            health = _wait(words, scorer, lambda h, w=words: w in (h["reload"]["reason"] or ""))
            assert health["model"]["version"] == "1.0.0"
            assert health["ready"]
            assert scorer.metric("driftline_scorer_model_reloads_total", outcome="refused") > before
            stage.reader.wait_for(len(stage.reader.answers) + 100)
        assert {json.loads(a.value)["model"]["version"] for a in stage.reader.answers} == {"1.0.0"}
        _write_version(stage.bundle, bundle, 4)
        _wait("a good one", scorer, lambda h: h["model"]["version"] == "1.1.4" and h["reload"]["state"] == "watching")
        sent = load_thread.end()
        stage.reader.wait_for(len(sent.records))
        assert scorer.stop() == 0
    assert_exactly_once(sent, stage.reader.answers)


class WritesAFile:
    """Unpickling it leaves a file on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.write_text, (self.path, "unpickled"))


@pytest.fixture
def public_key(tmp_path: Path) -> tuple[Ed25519PrivateKey, Path]:
    """A key pair; the public half as a file."""
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "public.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key, path


@pytest.mark.row(19)
def test_a_forged_bundle_is_refused_before_anything_in_it_runs(
    stage: Stage, public_key: tuple[Ed25519PrivateKey, Path]
) -> None:
    """At start (exit 2, one line) and as a reload: a pickle that writes a file never gets to write it."""
    key, path = public_key
    bundle, trace = stage.folder / "model", stage.folder / "trace"
    shutil.copytree(stage.bundle, bundle)
    manifest = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.sig").write_bytes(key.sign(manifest))
    evil = io.BytesIO()
    joblib.dump(WritesAFile(trace), evil)
    environment = {"SCORER_MODEL": str(bundle), "MODEL_PUBLIC_KEY": str(path), "SCORER_MODEL_POLL": "100ms"}
    with stage.scorer(**environment) as scorer:
        scorer.wait_ready()
        assert scorer.get("/health").json()["model"]["signed"]
        # hashes that fit, and a signature by another key
        forged = parse_manifest(manifest).model_copy(update={"version": "6.6.6"})
        write_bundle(
            bundle, forged, {"model.joblib": evil.getvalue(), "reference.npz": (bundle / "reference.npz").read_bytes()}
        )
        (bundle / "manifest.sig").write_bytes(
            Ed25519PrivateKey.generate().sign((bundle / "manifest.json").read_bytes())
        )
        health = _wait("forged", scorer, lambda h: "manifest.sig: not a signature" in (h["reload"]["reason"] or ""))
        assert health["model"]["version"] == "1.0.0"
        assert scorer.stop() == 0
    for spoil in (
        lambda: None,  # the forged signature as above
        (bundle / "manifest.sig").unlink,
        # the true manifest and signature over the evil file: the hash is wrong
        lambda: (
            (bundle / "manifest.json").write_bytes(manifest),
            (bundle / "manifest.sig").write_bytes(key.sign(manifest)),
        ),
    ):
        spoil()
        with stage.scorer(**environment) as scorer:
            assert scorer.process.wait(60) == 2
            assert scorer.tail(1).startswith("model refused: ")
    # without a key a wrong hash is still refused
    with stage.scorer(SCORER_MODEL=str(bundle)) as scorer:
        assert scorer.process.wait(60) == 2
        assert "model refused: model.joblib: " in scorer.tail(1)
    assert not trace.exists()
    # the pickle is a live one: what guards against it is not its own failure
    joblib.load(io.BytesIO(evil.getvalue()))
    assert trace.read_text() == "unpickled"
