"""`--track`: a training as a run of MLflow with its bundle as a version, and models that the registry names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from driftline.errors import CommandError

if TYPE_CHECKING:
    from streaming.registry import Address, Registry
    from training.spec import Spec
    from training.train import Trained


def folder(place: Path) -> Path:
    """The bundle's folder: of an `mlflow:models:/` address a copy, for as long as this process lives; CommandError."""
    from schemas.bundle import copy_bundle
    from streaming.registry import RegistryError, local

    try:
        return local(place, copy_bundle)[0]
    except RegistryError as error:
        raise CommandError(str(error)) from None


def track(uri: str, bundle: Path, spec: Spec, trained: Trained, alias: str | None) -> str:
    """Parameters, metrics with their mean and spread over the folds, the bundle and its data's hash; the version."""
    from streaming.registry import Registry, RegistryError

    manifest = trained.manifest
    parameters = {
        "estimator": spec.estimator.kind,
        "seed": spec.training.seed,
        "test_size": spec.training.test_size,
        "threshold": manifest.threshold,
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
    """The version that the address names now: an alias may move while a version is judged. RegistryError."""
    from streaming.registry import Address, Registry

    return Address(place.name, version=Registry().resolve(place))


def promote(champion: Address, candidate: Address, compared: Address) -> None:
    """The alias `champion` names the candidate's version from now on, and `previous` the one before.

    candidate, compared: the versions that were judged. CommandError, too, if the alias names another than `compared`.
    """
    from streaming.registry import CHALLENGER, PREVIOUS

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
    """The alias and `previous` change places; CommandError."""
    from streaming.registry import PREVIOUS

    registry, aliases, alias = _registry(champion)
    if PREVIOUS not in aliases:
        raise CommandError(f"{champion}: no version has the alias {PREVIOUS}")
    registry.alias(champion.name, alias, aliases[PREVIOUS])
    registry.alias(champion.name, PREVIOUS, aliases[alias])


def _registry(champion: Address) -> tuple[Registry, dict[str, str], str]:
    from streaming.registry import Registry

    if champion.alias is None:
        raise CommandError(f"{champion}: a version never changes; name an alias")
    registry = Registry()
    aliases = registry.aliases(champion.name)
    if champion.alias not in aliases:
        raise CommandError(f"{champion}: no version has this alias")
    return registry, aliases, champion.alias
