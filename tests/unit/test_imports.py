"""Who may import whom, which folders know nothing of clocks, logs and networks, and that the tree explains itself."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "schemas": set(),
    "kafka_runtime": set(),
    "scorer": {"schemas", "kafka_runtime"},
    "drift_worker": {"schemas", "kafka_runtime"},
    "driftline": {"schemas", "kafka_runtime"},
    "bench": {"schemas", "kafka_runtime", "driftline"},
}
PACKAGES = tuple(MAY_IMPORT)
# Commands that start what is no part of the command line.
STARTS = {
    ("driftline/commands/scorer.py", "scorer"),
    ("driftline/commands/drift_worker.py", "drift_worker"),
    ("driftline/commands/bench.py", "bench"),
}
# Anyone may import these folders of the drift worker; its stages and its root are imported by itself alone
# (docs/adr/0004).
OPEN = (
    "drift_worker.counts",
    "drift_worker.statistics",
    "drift_worker.relations",
    "drift_worker.alerting",
    "drift_worker.performance",
    "drift_worker.page",
)
IMPURE = {"aiokafka", "prometheus_client", "asyncio", "logging", "structlog", "os", "time"}
# No I/O, no clock, no environment, no logging, no metrics: time and randomness are arguments.
PURE = ("schemas", "schemas/mapping", "schemas/formats", *(name.replace(".", "/") for name in OPEN))
ALSO_PURE = (
    "scorer/direct.py",
    "scorer/pipeline.py",
    "scorer/score.py",
    "driftline/model_life/model_comparison.py",
)
# Modules of a folder, without __init__ and __main__.
MOST_MODULES = 18


@cache
def _files(package):
    return tuple(path for path in sorted((ROOT / package).rglob("*.py")) if "peers" not in path.parts)


def _name(path):
    return str(path.relative_to(ROOT))


def _module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules(path):
    """Full names of everything that a file imports, wherever in it the import is."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = _module(path).split(".")[: -node.level] if node.level else []
            module = ".".join([*parent, *filter(None, [node.module])])
            # `from package import file` names a file, too
            files = [f"{module}.{alias.name}" for alias in node.names]
            found.update([f for f in files if _path(f)] or [module])
    return frozenset(found)


def _path(module):
    """The file of one of our modules, None if there is none."""
    stem = ROOT / module.replace(".", "/")
    files = [f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.exists()]
    return files[0] if files and module.split(".")[0] in PACKAGES else None


def _tops(path):
    """Top-level names of everything that a file imports."""
    return {name.split(".")[0] for name in _modules(path)}


def _pure_files():
    return sorted({_name(path) for folder in PURE for path in (ROOT / folder).glob("*.py")} | set(ALSO_PURE))


def _defines_functions(path):
    """A file of names and numbers only has nothing to test."""
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    """The services never import each other; schemas and kafka_runtime import nothing of ours."""
    allowed = MAY_IMPORT[package] | {package}
    assert _files(package)
    wrong = {
        (_name(path), name)
        for path in _files(package)
        for name in _modules(path)
        if name.split(".")[0] in PACKAGES
        and name.split(".")[0] not in allowed
        and not (name.startswith(OPEN) and package in {"driftline", "bench"})
        and (_name(path), name.split(".")[0]) not in STARTS
    }
    assert wrong == set()


def test_open_folders_of_the_drift_worker_import_neither_its_root_nor_its_stages():
    """A command that uses a rule of the drift worker gets no service with it."""
    wrong = {
        (_name(path), name)
        for folder in OPEN
        for path in _files(folder.replace(".", "/"))
        for name in _modules(path)
        if name.startswith("drift_worker") and not name.startswith(OPEN)
    }
    assert wrong == set()


def test_no_import_circle():
    """Type-only imports count, too: what is only named is still needed to read the file."""
    graph = {
        _module(path): {name for name in _modules(path) if _path(name)}
        for package in PACKAGES
        for path in _files(package)
    }
    state = {}

    def visit(module, trail):
        if state.get(module) == "done":
            return
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        for name in sorted(graph.get(module, ())):
            visit(name, [*trail, module])
        state[module] = "done"

    for module in sorted(graph):
        visit(module, [])


# A challenger's process runs the scorer's pipeline, and the pipeline splits customers by scorer/challenger/split.py.
@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "scorer"])
def test_no_circle_of_folders(package):
    """A folder stands above what it imports: the files beside each other and the folders of a package have an order."""
    graph = {}
    for path in _files(package):
        room, *_ = path.relative_to(ROOT / package).with_suffix("").parts
        names = [name.split(".") for name in _modules(path) if _path(name) and name.startswith(f"{package}.")]
        graph.setdefault(room, set()).update(name[1] for name in names if name[1] != room)
    order = TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle


def test_no_command_imports_a_command():
    """Code that two commands share is in a separate module."""
    wrong = {
        (_name(path), name)
        for path in _files("driftline/commands")
        for name in _modules(path)
        if name.startswith("driftline.commands") and _path(name) != path
    }
    assert wrong == set()


def test_only_kafka_runtime_and_the_verifier_know_the_kafka_library():
    """Everything else uses what kafka_runtime offers, so that a change of library is a change of one folder."""
    using = {
        _name(path)
        for package in PACKAGES
        for path in _files(package)
        if package != "kafka_runtime" and "aiokafka" in _tops(path)
    }
    assert using == {"driftline/verifier.py"}


def test_traces_that_are_off_import_nothing():
    """Only two files know OpenTelemetry, and what is imported with a service imports neither of them."""
    traced = {
        "scorer.tracing": "scorer/tracing.py",
        "kafka_runtime.service.tracing": "kafka_runtime/service/tracing.py",
    }
    files = [path for package in PACKAGES for path in _files(package)]
    assert {_name(path) for path in files if "opentelemetry" in _tops(path)} == set(traced.values())
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # not within functions or `if TYPE_CHECKING`
            if isinstance(node, ast.ImportFrom):
                named = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not named & traced.keys() or _name(path) in traced.values(), path


def test_the_verifier_shares_no_code_with_what_it_judges():
    """A defect in shared code would hide itself."""
    # the reading of a .proto text is held against Google's compiler, by its own tests
    own = {"driftline.verifier_events", "schemas.formats.proto_text"}
    for path in (ROOT / "driftline/verifier.py", ROOT / "driftline/verifier_events.py"):
        assert {name for name in _modules(path) if name.split(".")[0] in PACKAGES} <= own


@pytest.mark.parametrize("name", _pure_files())
def test_pure_files_import_nothing_that_does_things(name):
    """Their arguments decide everything, and every test of them is a matter of milliseconds."""
    assert _tops(ROOT / name) & IMPURE == set()


@pytest.mark.parametrize("name", [name for name in _pure_files() if _defines_functions(ROOT / name)])
def test_every_pure_file_has_unit_tests_of_its_name(name):
    """The author of a changed rule finds its tests at once, and they take milliseconds."""
    path = Path(name)
    assert (ROOT / "tests/unit" / path.parent / f"test_{path.stem}.py").exists()


def test_no_file_of_ours_imports_the_tests():
    """The tests' own tools are for tests alone."""
    tools = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} | {"tests"}
    assert all(not _tops(path) & tools for package in PACKAGES for path in _files(package))


@pytest.mark.parametrize(
    "folder", sorted({_name(path.parent) for package in (*PACKAGES, "deploy/dashboards") for path in _files(package)})
)
def test_every_module_is_named_in_the_docstring_of_its_package(folder):
    """A newcomer finds the place for a change in the docstring of a folder, not by opening its files."""
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
    packages = {f"{path.parent.name}/" for path in (ROOT / folder).glob("*/__init__.py")}
    assert {name for name in modules | packages if name not in text} == set()


def test_no_folder_is_too_large_to_survey():
    """A folder of product code has 18 modules at most."""
    counts = {}
    for package in (*PACKAGES, "deploy"):
        for path in _files(package):
            if path.name not in {"__init__.py", "__main__.py"}:
                counts.setdefault(_name(path.parent), []).append(path.name)
    assert {folder: len(names) for folder, names in counts.items() if len(names) > MOST_MODULES} == {}
