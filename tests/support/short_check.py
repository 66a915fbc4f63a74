"""A bundle's self-check from 10 drawn references instead of 40, while no test looks at it: 1 s of CPU instead of 4.

Every statistic of the Telco reference is found right by both. Tests of the self-check itself draw all 40, and so do new
interpreters: those of tests/packaging, and of the demonstrations.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODULE = "drift_worker.statistics.self_check"
REFERENCES = 10


class _Shortened(MetaPathFinder, Loader):
    """Finds the module as usual, and changes its constant once it has run."""

    def find_spec(self, name: str, path: object, _target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == MODULE else None
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.REFERENCES = REFERENCES


def install() -> None:
    """Shorten it in this process, when it is imported."""
    sys.meta_path.insert(0, _Shortened())
