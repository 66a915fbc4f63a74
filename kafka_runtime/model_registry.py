"""Models in an MLflow registry: `mlflow:models:/NAME@ALIAS` instead of a folder. The only importer of mlflow, an extra.

A registry's version holds a bundle as its artifacts, file for file. An alias is resolved to a version, which never
changes. The version is copied into a folder of this process, then read and verified as any bundle is. Only the choice
of the version is trusted to the registry. Stages are not used: MLflow has deprecated them.

MLflow chooses the registry from MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI and its credentials.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
# MLflow allows nearly any name (`Churn_Model`, `main.ml.churn`); the bundle has a name of its own.
_NAME = r"[^/@:\s](?:[^/@:]{0,254}[^/@:\s])?"
_ADDRESS = re.compile(rf"mlflow:models:/({_NAME})(?:@([A-Za-z][\w-]{{0,254}})|/([1-9][0-9]*))")
# The third form is the id of a logged model, which `log_model` returns as its model_uri.
_MODEL = re.compile(rf"(?:mlflow:)?(models:/{_NAME}(?:@[\w-]+|/[\w-]+)|runs:/[\w-]+/.+|models:/m-[0-9a-f]{{32}})")
_FOLDER = "bundle"
# A service polls every few seconds and must not wait for minutes in between; MLflow's defaults are 7 times 120 s.
# MLflow's telemetry is switched off, and git is not needed.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

# Copies a whole bundle into a folder: schemas.bundle.files.copy_bundle, which this package does not import.
Copy = Callable[[Path, Path], object]


class RegistryError(Exception):
    """A failure of the registry, or an invalid request to it. The text is one line."""


@dataclass(frozen=True, slots=True)
class Address:
    """A model in the registry: by an alias, which may move, or by a version, which may not."""

    name: str
    alias: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return f"mlflow:models:/{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")


def address(place: Path) -> Address | None:
    """Return the address if `place` is one, None if it is a folder; RegistryError if it is neither.

    >>> address(Path("mlflow:models:/churn-telco@champion"))
    Address(name='churn-telco', alias='champion', version=None)
    >>> address(Path("artifacts/model"))
    """
    text = str(place)
    if not text.startswith("mlflow:"):
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise RegistryError(f"{text}: expected mlflow:models:/NAME@ALIAS or mlflow:models:/NAME/VERSION")
    return Address(*found.groups())


def model_uri(place: Path) -> str | None:
    """Return MLflow's URI of a model that need not be a bundle; None if `place` is a path. RegistryError if neither.

    >>> model_uri(Path("mlflow:models:/Churn_Model@champion")), model_uri(Path("runs:/0a1b/model"))
    ('models:/Churn_Model@champion', 'runs:/0a1b/model')
    >>> model_uri(Path("models:/m-7453a70802d44bb988e54b46d580902e"))
    'models:/m-7453a70802d44bb988e54b46d580902e'
    """
    text = str(place)
    if not text.startswith(("mlflow:", "models:/", "runs:/")):
        return None
    found = _MODEL.fullmatch(text)
    if found is None:
        raise RegistryError(
            f"{text}: expected mlflow:models:/NAME@ALIAS, mlflow:models:/NAME/VERSION, models:/m-ID or runs:/RUN/PATH"
        )
    return found[1]


class Registry:
    """The calls to MLflow. Every failure is a RegistryError in one line.

    uri: of the store; None: taken from the environment.
    """

    def __init__(self, uri: str | None = None) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient  # noqa: PLC0415 - an extra, and three seconds
        except ImportError:
            raise RegistryError("mlflow is not installed: pip install 'driftline[mlflow]'") from None
        self._uri = uri
        self._client: Any = self._ask(lambda: MlflowClient(uri, uri))

    def resolve(self, place: Address) -> str:
        """Return the version that the address names now."""
        if place.version is not None:
            return place.version
        found = self._ask(lambda: self._client.get_model_version_by_alias(place.name, place.alias), place)
        return str(found.version)

    def download(self, place: Address, version: str, folder: Path) -> Path:
        """Copy the version's files below `folder`; return their folder."""
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - as above

        folder.mkdir(parents=True, exist_ok=True)

        def fetch() -> Path:
            source = self._client.get_model_version_download_uri(place.name, version)
            return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=self._uri))

        there: Path = self._ask(fetch, place)
        return there

    def fetch(self, uri: str, folder: Path) -> Path:
        """Copy the files of a model below `folder`, and return where they are; uri: of `model_uri`."""
        from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - as above

        folder.mkdir(parents=True, exist_ok=True)
        there: Path = self._ask(
            lambda: Path(download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self._uri)), uri
        )
        return there

    def register(
        self,
        name: str,
        bundle: Path,
        *,
        run: str,
        metrics: Mapping[str, float],
        parameters: Mapping[str, object],
        tags: Mapping[str, str],
        alias: str | None,
    ) -> str:
        """Register the bundle as the artifacts of a run with that name; return the version made of it.

        alias: a name for the version; a model's first version is its champion, too.
        """

        def log() -> str:
            c = self._client
            at = c.create_run(self._experiment(name), run_name=run).info
            for key, parameter in parameters.items():
                c.log_param(at.run_id, key, parameter)
            for key, metric in metrics.items():
                c.log_metric(at.run_id, key, metric)
            c.log_artifacts(at.run_id, str(bundle), _FOLDER)
            if not c.search_registered_models(f"name = '{name}'"):
                c.create_registered_model(name)
            made = c.create_model_version(name, f"{at.artifact_uri}/{_FOLDER}", at.run_id, tags=dict(tags))
            c.set_terminated(at.run_id)
            for one in {alias, CHAMPION if str(made.version) == "1" else None} - {None}:
                c.set_registered_model_alias(name, one, made.version)
            return str(made.version)

        version: str = self._ask(log)
        return version

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version that each alias names."""
        found = self._ask(lambda: self._client.get_registered_model(name)).aliases
        return {alias: str(version) for alias, version in found.items()}

    def alias(self, name: str, alias: str, version: str | None) -> None:
        """Set the alias to this version; None removes it."""
        if version is None:
            self._ask(lambda: self._client.delete_registered_model_alias(name, alias))
        else:
            self._ask(lambda: self._client.set_registered_model_alias(name, alias, version))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # beside the file of a SQLite store: MLflow's default is the current folder of the command
        store = str(self._client.tracking_uri)
        where = None
        if store.startswith("sqlite:///"):
            where = (Path(store.removeprefix("sqlite:///")).resolve().parent / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=where))

    def _ask(self, question: Callable[[], Any], place: Address | str | None = None) -> Any:
        try:
            return question()
        except RegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - MLflow, SQLAlchemy, requests and cloud libraries each raise their own
            what = " ".join(str(error).split())[:300]
            raise RegistryError(f"{place or 'MLflow'}: {type(error).__name__}: {what}") from None


class Followed:
    """A folder that holds what an address names, as of the last `refresh`."""

    def __init__(self, place: Address, copy: Copy) -> None:
        """Start with an empty folder, before the first refresh. The folder is deleted when the process ends."""
        self.place = place
        self._copy = copy
        self._registry: Registry | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="driftline-model-"))
        self.directory = self._folder / "model"
        self.version: str | None = None
        self._spoilt: tuple[str, Exception] | None = None
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def refresh(self) -> None:
        """Resolve the address, and fetch the version if it is another one.

        A RegistryError changes no state. A version that is no bundle never becomes one, so it is fetched once. After an
        OSError it is fetched again.
        """
        if self._registry is None:
            self._registry = Registry()
        version = self._registry.resolve(self.place)
        if version == self.version:
            return
        if self._spoilt is not None and self._spoilt[0] == version:
            raise self._spoilt[1].with_traceback(None)  # the traceback would grow with every raise
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            there = self._registry.download(self.place, version, Path(folder))
            try:
                self._copy(there, self.directory)
            except OSError:  # a full disk, for instance: the version is not the cause
                raise
            except Exception as error:
                self._spoilt = version, error
                raise
        self.version, self._spoilt = version, None


def local(place: Path, copy: Copy) -> tuple[Path, Callable[[], None]]:
    """Return a folder with the bundle, and the function that refreshes it (none needed for a folder). RegistryError."""
    found = address(place)
    if found is None:
        return place, lambda: None
    followed = Followed(found, copy)
    followed.refresh()
    return followed.directory, followed.refresh
