"""Models in an MLflow registry: a real SQLite store, and nothing else running."""

import importlib.util
import json
import pickle
import shutil
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry
from sklearn.linear_model import LogisticRegression
from support import bundles
from typer.testing import CliRunner

from driftline.cli import app
from driftline.errors import CommandError
from driftline.mlflow_tracking import model_at, promote
from driftline.training.synthetic_customers import generate_customers
from kafka_runtime.model_registry import Followed, Registry, RegistryError, address, model_uri
from schemas.bundle.files import copy_bundle, read_bundle, write_bundle
from schemas.bundle.manifest import BundleError
from scorer.metrics import ScorerMetrics
from scorer.model import load
from scorer.reload import Reloader, needs_other_producers
from scorer.telemetry import ScorerTelemetry

# the extra, which `make .venv` installs; its warnings, and those of its dependencies, cannot be fixed here
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra: driftline[mlflow]"),
    pytest.mark.filterwarnings("ignore"),
]
CHAMPION = "mlflow:models:/churn-small@champion"
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store's file with nothing in it: MLflow makes one by all the migrations it ever had."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # MLflow keeps the files of models where the store was made
        with pytest.raises(RegistryError, match="nobody"):
            Registry(f"sqlite:///{path}").aliases("nobody")
    return path


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch):
    """A store of this test's own, named as MLflow names it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    return uri


def _register(folder, version, alias=None, spoil=False):
    """The small bundle as another version; spoilt: its model's bytes are not those of the manifest."""
    bundles.write(folder, version=version)
    if spoil:
        (folder / "model.joblib").write_bytes(b"x")
    return Registry().register("churn-small", folder, run=version, metrics={}, parameters={}, tags={}, alias=alias)


@pytest.mark.parametrize("text", ["mlflow:models:/a/b@champion", "mlflow:models:/churn", "mlflow:runs:/x/y"])
def test_an_address_that_is_none_is_named(text):
    """And a folder is none."""
    assert address(Path("artifacts/model")) is None
    for name in ("churn", "Churn_Model", "main.ml.churn"):
        assert str(address(Path(f"mlflow:models:/{name}/7"))) == f"mlflow:models:/{name}/7"
    with pytest.raises(RegistryError, match="expected mlflow:models:/NAME@ALIAS"):
        address(Path(text))


class Served:
    """A model that is served from the alias `champion`, as the scorer does it, without its thread."""

    def __init__(self):
        followed = Followed(address(Path(CHAMPION)), copy_bundle)
        followed.refresh()
        self.metrics = CollectorRegistry()
        report = ScorerTelemetry(ScorerMetrics(self.metrics))
        self.model = load(followed.directory, None)
        self.reloader = Reloader(
            directory=followed.directory,
            public_key=None,
            poll_s=0.01,
            served=lambda: self.model,
            serve=lambda model: setattr(self, "model", model),
            unfit=lambda new: needs_other_producers(self.model.manifest, new),
            report=report,
            refresh=followed.refresh,
        )

    def look(self):
        """One poll; what is served, and how the reloader is."""
        self.reloader.look()
        return self.model.manifest.version, self.reloader.state()["state"]

    def refused(self):
        return self.metrics.get_sample_value("driftline_scorer_model_reloads_total", {"outcome": "refused"})


@pytest.mark.usefixtures("store")
def test_a_model_is_swapped_when_its_alias_moves_and_stays_when_the_registry_is_away(tmp_path):
    """A spoilt version, a missing alias and an unreachable store are refusals, counted once; the model serves on."""
    assert _register(tmp_path / "one", "1.0.0") == "1"
    assert _register(tmp_path / "two", "1.1.0") == "2"
    assert _register(tmp_path / "bad", "1.2.0", spoil=True) == "3"
    registry, served = Registry(), Served()
    assert served.look() == ("1.0.0", "watching")  # a model's first version is its champion

    registry.alias("churn-small", "champion", "2")
    assert served.look() == ("1.1.0", "watching")

    registry.alias("churn-small", "champion", "3")
    assert served.look() == served.look() == ("1.1.0", "refused")
    assert "model.joblib" in served.reloader.state()["reason"]
    assert served.refused() == 1

    registry.alias("churn-small", "champion", None)
    assert served.look() == served.look() == ("1.1.0", "refused")
    assert CHAMPION in served.reloader.state()["reason"]
    assert served.refused() == 2

    registry.alias("churn-small", "champion", "1")
    assert served.look() == ("1.0.0", "watching")
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    assert served.look() == served.look() == ("1.0.0", "refused")
    assert served.refused() == 3


@pytest.mark.usefixtures("store")
def test_a_plain_mlflow_model_is_bundled_as_it_is(tmp_path):
    """Under a name that no bundle has; served as it is, it is no bundle, and the error has the way."""
    folder = tmp_path / "plain"
    folder.mkdir()
    rows = pd.DataFrame({"b": np.linspace(0.0, 3.0, 80), "a": np.tile([0.0, 1.0], 40)})
    labels = (rows["b"] > 1.4).astype(int)
    (folder / "model.pkl").write_bytes(pickle.dumps(LogisticRegression().fit(rows, labels)))
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    Registry().register("Churn_Model", folder, run="1", metrics={}, parameters={}, tags={}, alias=None)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    spec = tmp_path / "spec.toml"
    features = "".join(f'[features.{name}]\nkind = "numeric"\n' for name in ("a", "b"))
    spec.write_text(f'[model]\nname = "churn-model"\nversion = "1.0.0"\n{features}')
    place = "mlflow:models:/Churn_Model@champion"
    made = _run("bundle", "--spec", spec, "--model", place, "--data", tmp_path / "rows.csv", "--out", tmp_path / "m",
                "--json")  # fmt: skip
    assert (made["name"], made["features"]) == ("churn-model", 2)
    assert [feature.name for feature in read_bundle(tmp_path / "m").manifest.features] == ["b", "a"]
    with pytest.raises(BundleError, match="is an MLflow model and no bundle: driftline bundle --spec"):
        Followed(address(Path(place)), copy_bundle).refresh()
    with pytest.raises(RegistryError, match="Absent"):
        Registry().fetch("models:/Absent@champion", tmp_path / "x")
    with pytest.raises(RegistryError, match="expected mlflow:models:/NAME@ALIAS"):
        model_uri(Path("mlflow:Churn_Model"))


@pytest.mark.usefixtures("store")
def test_what_log_model_returns_is_an_address_of_the_model():
    """MLflow's own way to save a fitted estimator, and the three addresses that it has afterwards."""
    rows = pd.DataFrame({"a": np.linspace(0.0, 3.0, 80)})
    mlflow = pytest.importorskip("mlflow.sklearn").mlflow
    with mlflow.start_run() as run:
        fitted = LogisticRegression().fit(rows, (rows["a"] > 1.4).astype(int))
        logged = mlflow.sklearn.log_model(
            fitted, name="model", serialization_format="cloudpickle", registered_model_name="Churn"
        )
    for text in (logged.model_uri, f"mlflow:runs:/{run.info.run_id}/model", "mlflow:models:/Churn/1"):
        with model_at(Path(text)) as folder:
            saved = joblib.load(folder / "model.pkl")
        assert np.array_equal(saved.coef_, fitted.coef_), text
    with pytest.raises(RegistryError, match="expected mlflow:models:/NAME@ALIAS"):
        model_uri(Path("models:/m-7453"))


def _spec(folder):
    text = Path("examples/churn5.toml").read_text(encoding="utf-8")
    path = folder / "spec.toml"
    path.write_text(text.replace("hist_gradient_boosting", "logistic_regression"), encoding="utf-8")
    return path


def _run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def test_the_life_of_a_model_in_the_registry(store, tmp_path, long):
    """Trained and tracked, trained again as challenger, promoted by evidence, rolled back: aliases move, no file."""
    if not long:
        pytest.skip("only with --long")
    from mlflow import MlflowClient

    spec, name = _spec(tmp_path), "churn-abonnement"
    for part, rows in (("old", 300), ("new", 3000), ("recent", 1200)):
        (tmp_path / f"{part}.csv").write_text(generate_customers(rows, len(part) + rows), encoding="utf-8", newline="")
    poor = (tmp_path / "old.csv").read_text().replace(",oui", ",?").replace(",non", ",oui").replace(",?", ",non")
    (tmp_path / "old.csv").write_text(poor)  # who learnt from these knows the opposite
    address_of = f"mlflow:models:/{name}@"

    made = _run(
        "train", "--spec", spec, "--data", tmp_path / "old.csv", "--out", tmp_path / "m", "--track", store, "--json"
    )
    again = _run(
        *("retrain", "--spec", spec, "--model", f"{address_of}champion", "--out", tmp_path / "c", "--track", store),
        *("--reason", "performance", "--data", tmp_path / "new.csv", "--json"),
    )
    client = MlflowClient(store, store)

    def aliases():
        return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}

    assert (made["registry_version"], again["candidate"]["registry_version"]) == ("1", "2")
    assert aliases() == {"champion": 1, "challenger": 2}
    run = client.get_run(client.get_model_version(name, "1").run_id).data
    manifest = read_bundle(tmp_path / "m").manifest
    assert run.params["data_sha256"] == manifest.training_data.sha256
    assert run.metrics["roc_auc"] == manifest.metrics["roc_auc"]
    assert 0.5 < run.metrics["cv_roc_auc_mean"] < 1.0
    assert run.metrics["cv_roc_auc_std"] > 0.0

    arguments = ("--data", tmp_path / "recent.csv", "--target", "resiliation", "--id", "client_id", "--json")
    _run("promote", "--candidate", f"{address_of}challenger", "--to", f"{address_of}champion", *arguments)
    assert aliases() == {"champion": 2, "previous": 1}
    _run("rollback", "--model", f"{address_of}champion", "--json")
    assert aliases() == {"champion": 1, "previous": 2}
    one, two = (address(Path(f"mlflow:models:/{name}/{version}")) for version in (1, 2))
    with pytest.raises(CommandError, match="names version 1 now, compared was 2"):
        promote(address(Path(f"{address_of}champion")), one, two)
    with pytest.raises(CommandError, match="two folders, or two"):
        app(["promote", "--candidate", str(tmp_path / "c"), "--to", f"{address_of}champion", *map(str, arguments)],
            standalone_mode=False)  # fmt: skip


def test_a_scorer_serves_what_the_alias_names(store, telco_bundle, tmp_path, long, request):
    """A real process: the first version at the start, and the next one when the alias moves, without a restart."""
    if not long:
        pytest.skip("only with --long")
    stage = request.getfixturevalue("stage")
    bundle = read_bundle(telco_bundle)
    registry = Registry()
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version
        write_bundle(folder, bundle.manifest.model_copy(update={"version": version}), bundle.files)
        registry.register("churn-telco", folder, run=version, metrics={}, parameters={}, tags={}, alias=None)
    place = "mlflow:models:/churn-telco@champion"
    with stage.scorer(SCORER_MODEL=place, SCORER_MODEL_POLL="200ms", MLFLOW_TRACKING_URI=store) as scorer:
        scorer.wait_ready()
        assert scorer.get("/health").json()["model"]["version"] == "1.0.0"
        registry.alias("churn-telco", "champion", "2")
        deadline = time.monotonic() + DEADLINE_S
        while scorer.get("/health").json()["model"]["version"] != "1.1.0":
            assert time.monotonic() < deadline, scorer.tail()
            time.sleep(0.1)
