"""Who may import whom, and which files know nothing of clocks, logs and networks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "streaming", "pages", "scorer", "drift_worker", "training", "driftline")
MAY_IMPORT = {
    "schemas": set(),
    "streaming": set(),
    "pages": {"schemas"},
    "scorer": {"schemas", "streaming"},
    "drift_worker": {"schemas", "streaming", "pages"},
    "training": {"schemas", "streaming"},
    "driftline": {"schemas", "streaming", "pages", "training"},
}
# Whoever says or checks what the drift worker would say uses its rule, not a copy of it (docs/adr/0004). Only pure
# files, and nothing else of the service: it stays a process of its own.
MAY_USE = {
    "driftline/backtest.py": {"drift_worker.decide", "drift_worker.episodes"},
    "driftline/compare.py": {"drift_worker.performance"},
    "driftline/evaluate.py": {"drift_worker.estimate", "drift_worker.performance"},
    "driftline/paired.py": {"drift_worker.join", "drift_worker.performance"},
    "training/calibrate.py": {"drift_worker.estimate"},
    "training/checks.py": {
        "drift_worker.cells",
        "drift_worker.columns",
        "drift_worker.decide",
        "drift_worker.quality",
        "drift_worker.rates",
    },
    "training/compare.py": {"drift_worker.performance"},
    "training/labelled.py": {"drift_worker.join"},
    "training/retrain.py": {"drift_worker.performance"},
    "training/train.py": {"drift_worker.performance", "drift_worker.self_check"},
    "driftline/reference_diff.py": {"drift_worker.cells", "drift_worker.columns", "drift_worker.psi"},
}
IMPURE = {"aiokafka", "prometheus_client", "asyncio", "logging", "structlog", "os", "time"}
# No I/O, no clock, no environment, no logging, no metrics: time and randomness are arguments.
PURE = {
    *(
        f"schemas/{n}.py"
        for n in (
            "alert",
            "dead_letter",
            "environment",
            "event",
            "features",
            "headers",
            "label",
            "measurement",
            "performance",
        )
    ),
    *(f"schemas/{n}.py" for n in ("bundle", "prediction", "reference", "rfc3339", "verdict")),
    *(f"pages/{n}.py" for n in ("cards", "drift", "history", "markup", "overview", "pictures", "pieces", "style")),
    *(f"pages/{n}.py" for n in ("subject", "words")),
    *(f"scorer/{n}.py" for n in ("direct", "pipeline", "score")),
    *(f"drift_worker/{n}.py" for n in ("categories", "cells", "columns", "counts", "decide", "deltas", "episodes")),
    *(f"drift_worker/{n}.py" for n in ("compare", "spans", "subjects")),
    *(f"drift_worker/{n}.py" for n in ("estimate", "event_time", "evidence", "join", "ks", "level", "lifecycle")),
    *(f"drift_worker/{n}.py" for n in ("cohorts", "facts", "label_store", "measure", "mismatch", "performance")),
    *(f"drift_worker/{n}.py" for n in ("performance_drop",)),
    *(f"drift_worker/{n}.py" for n in ("psi", "quality", "rates", "repeats", "season", "self_check")),
    *(f"drift_worker/{n}.py" for n in ("tails", "windows")),
    "training/compare.py",
}


def _files(package):
    return sorted((ROOT / package).rglob("*.py"))


def _modules(path):
    """Full names of everything a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = path.parent.name if node.level else node.module
            # `from package import file` names a file, too
            files = [f"{module}.{alias.name}" for alias in node.names if module in PACKAGES]
            yield from [f for f in files if (ROOT / f"{f.replace('.', '/')}.py").exists()] or [module]


def _imports(path):
    """Their top-level names."""
    return (name.split(".")[0] for name in _modules(path))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    """The services never import each other; schemas and streaming import nothing of ours."""
    allowed = MAY_IMPORT[package] | {package}
    files = _files(package)
    assert files
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in _modules(path)
        if name.split(".")[0] in PACKAGES
        and name.split(".")[0] not in allowed
        and name not in MAY_USE.get(str(path.relative_to(ROOT)), ())
    }
    assert wrong == set()


@pytest.mark.parametrize("name", sorted({name for names in MAY_USE.values() for name in names}))
def test_what_a_command_uses_of_a_service_is_pure_down_to_the_ground(name):
    """The file itself, and every file of the service that it imports."""
    pending, seen = [name], set()
    while pending:
        file = f"{pending.pop().replace('.', '/')}.py"
        if file not in seen:
            seen.add(file)
            pending += [module for module in _modules(ROOT / file) if module.startswith("drift_worker.")]
    assert seen <= PURE


def test_nothing_is_allowed_that_nobody_uses():
    """An exception that has outlived its reason is taken back."""
    for file, names in MAY_USE.items():
        assert names <= set(_modules(ROOT / file))


def test_only_streaming_and_the_verifier_know_the_kafka_library():
    """Everything else uses what streaming offers, so that a change of library is a change of one folder."""
    using = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in _files(package)
        if package != "streaming"
        and "aiokafka" in set(_imports(path))
        # the benchmark's rivals are programs of their own, run as processes
        and "driftline/benchmark/peers" not in str(path)
    }
    assert using == {"driftline/verify.py"}


def test_the_verifier_shares_no_code_with_what_it_judges():
    """A defect in shared code would hide itself."""
    assert set(_imports(ROOT / "driftline/verify.py")) & set(PACKAGES) == set()


@pytest.mark.parametrize("path", sorted(PURE))
def test_pure_files_import_nothing_that_does_things(path):
    """What they do is decided by their arguments alone, and every test of them is a matter of milliseconds."""
    assert set(_imports(ROOT / path)) & IMPURE == set()


def test_no_file_of_ours_imports_the_tests():
    """The tests' eyes on Kafka are theirs alone."""
    support = {path.stem for path in (ROOT / "tests/support").glob("*.py")} - {"events"}
    assert all(not set(_imports(path)) & (support | {"tests"}) for package in PACKAGES for path in _files(package))
