"""`--track`: a training as a run of MLflow with its bundle as a version, and models that the registry names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from driftline.errors import CommandError

if TYPE_CHECKING:
    from driftline.training.spec import Spec
    from driftline.training.train import Trained
    from kafka_runtime.model_registry import Address, Registry


def folder(place: Path) -> Path:
    """Return the bundle's folder.

    For an `mlflow:models:/` address it is a copy that exists as long as this process; CommandError.
    """
    from kafka_runtime.model_registry import RegistryError, local
    from schemas.bundle.files import copy_bundle

    try:
        return local(place, copy_bundle)[0]
    except RegistryError as error:
        raise CommandError(str(error)) from None


@contextmanager
def model_at(place: Path) -> Iterator[Path]:
    """Give the file or folder of a model, for the time of the context: of an MLflow URI a copy; CommandError."""
    from kafka_runtime.model_registry import Registry, RegistryError, model_uri

    with tempfile.TemporaryDirectory(prefix="driftline-model-") as folder:
        try:
            uri = model_uri(place)
            there = place if uri is None else Registry().fetch(uri, Path(folder))
        except RegistryError as error:
            raise CommandError(str(error)) from None
        yield there


def track(uri: str, bundle: Path, spec: Spec, trained: Trained, alias: str | None) -> str:
    """Record parameters, metrics with mean and spread over folds, bundle and data hash; return the version."""
    from kafka_runtime.model_registry import Registry, RegistryError

    manifest = trained.manifest
    parameters = {
        "estimator": spec.estimator_kind,
        "seed": spec.training.seed,
        "test_size": spec.training.test_size,
        **({} if manifest.threshold is None else {"threshold": manifest.threshold}),
        "features": len(manifest.features),
        "version": manifest.version,
        "training_rows": trained.training_rows,
        "held_out_rows": trained.held_out_rows,
        "data_sha256": manifest.training_data.sha256,
        "python": manifest.libraries.python,
        "scikit_learn": manifest.libraries.scikit_learn,
    }
    metrics = dict(manifest.metrics)
    for name, (mean, spread) in trained.folds.items():
        metrics |= {f"cv_{name}_mean": mean, f"cv_{name}_std": spread}
    try:
        return Registry(uri).register(
            manifest.name,
            bundle,
            run=f"{manifest.name}-{manifest.version}",
            metrics=metrics,
            parameters=parameters,
            tags={"driftline.version": manifest.version, "driftline.data_sha256": manifest.training_data.sha256},
            alias=alias,
        )
    except RegistryError as error:
        raise CommandError(f"{bundle} is written, and not tracked: {error}", 1) from None


def pinned(place: Address) -> Address:
    """Return the version that the address names now: an alias may move during a comparison. RegistryError."""
    from kafka_runtime.model_registry import Address, Registry

    return Address(place.name, version=Registry().resolve(place))


def promote(champion: Address, candidate: Address, compared: Address) -> None:
    """Set the alias `champion` to the candidate's version, and `previous` to the former one.

    candidate, compared: the compared versions. CommandError, also if the alias names another version than `compared`.
    """
    from kafka_runtime.model_registry import CHALLENGER, PREVIOUS

    registry, aliases, alias = _registry(champion)
    if aliases[alias] != compared.version:
        raise CommandError(
            f"not promoted: {champion} names version {aliases[alias]} now, compared was {compared.version}", 1
        )
    registry.alias(champion.name, PREVIOUS, aliases[alias])
    registry.alias(champion.name, alias, candidate.version)
    if aliases.get(CHALLENGER) == candidate.version:
        registry.alias(champion.name, CHALLENGER, None)


def rollback(champion: Address) -> None:
    """Swap the alias and `previous`; CommandError."""
    from kafka_runtime.model_registry import PREVIOUS

    registry, aliases, alias = _registry(champion)
    if PREVIOUS not in aliases:
        raise CommandError(f"{champion}: no version has the alias {PREVIOUS}")
    registry.alias(champion.name, alias, aliases[PREVIOUS])
    registry.alias(champion.name, PREVIOUS, aliases[alias])


def _registry(champion: Address) -> tuple[Registry, dict[str, str], str]:
    from kafka_runtime.model_registry import Registry

    if champion.alias is None:
        raise CommandError(f"{champion}: a version never changes; name an alias")
    registry = Registry()
    aliases = registry.aliases(champion.name)
    if champion.alias not in aliases:
        raise CommandError(f"{champion}: no version has this alias")
    return registry, aliases, champion.alias
