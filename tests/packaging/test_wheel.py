"""The wheel in an environment that holds nothing else of ours, far from the checkout, beside packages of our names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Names that other packages own: in a person's folder, or installed beside ours.
FOREIGN_FOLDERS = ("schemas", "training", "scorer", "streaming", "drift_worker", "kafka_runtime", "bench")
FOREIGN_PACKAGES = ("streaming", "training", "pages", "bench")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the locked build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("driftline-*.whl")
    return built


@pytest.fixture(scope="module")
def driftline(wheel: Path, tmp_path_factory: pytest.TempPathFactory):
    """The command, from the wheel and the locked libraries, run in a folder with packages of our names."""
    home = tmp_path_factory.mktemp("elsewhere")
    environment, here = home / "venv", home / "work"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    # the libraries, by a path: the editable install of the checkout is a .pth file there, and those are not followed
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    for folder, names in ((packages, FOREIGN_PACKAGES), (here, FOREIGN_FOLDERS)):
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("raise SystemExit('a module of another package')\n")

    def run(*arguments: str, by: tuple[str, ...] = (), **options: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), *by] if by else [str(environment / "bin" / "driftline")]
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("PYTHON", "KAFKA_", "SCORER_", "DRIFT_"))}
        return subprocess.run(
            [*command, *arguments], cwd=here, env={**clean, "OMP_NUM_THREADS": "1", **options}, capture_output=True,
            text=True, timeout=800, check=False,
        )  # fmt: skip

    return run


# Prints the help of each command that is an argument, its words joined by spaces, as JSON. What all of them need, two
# seconds of imports and the tree of commands, is made once.
HELPS = """
import json, os, sys
import rich.markdown, typer.main, typer.rich_utils
from driftline.cli import app
command, texts = typer.main.get_command(app), {}
for words in sys.argv[1:]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        os.close(reading)
        os.close(writing)
        command([*words.split(), "--help"], prog_name="driftline")
    os.close(writing)
    with open(reading) as text:
        texts[words] = text.read()
    if os.waitstatus_to_exitcode(os.wait()[1]) != 0:
        sys.exit(f"driftline {words} --help failed")
print(json.dumps(texts))
"""


def helps(run) -> dict[str, str]:
    """Every command and subcommand that a help lists, with its own help."""

    def ask(*commands: str) -> dict[str, str]:
        done = run(*commands, by=("-P", "-c", HELPS), COLUMNS="200")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    listed = re.compile(r"^│ ([a-z][a-z-]+)  ", re.MULTILINE)
    top = ask(*listed.findall(ask("")[""]))
    groups = {name: listed.findall(text.split("Commands")[1]) for name, text in top.items() if "Commands" in text}
    below = ask(*(f"{name} {one}" for name, inner in groups.items() for one in inner))
    return {name: text for name, text in top.items() if name not in groups} | below


def test_the_wheel_holds_the_examples_and_no_benchmark(wheel: Path) -> None:
    """What a command needs is in it; what develops Driftline is not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"driftline/examples/{name}" for name in ("telco.toml", "churn5.toml", "telco_churn.csv")} <= names
    top = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert top == {"driftline", "drift_worker", "kafka_runtime", "schemas", "scorer"}
    assert not [name for name in names if "/tests/" in name or "peers" in name]


def test_both_services_start_beside_packages_of_their_names(driftline) -> None:
    """By the command, and by Python's -m for what is not shadowed itself: a missing model is one line."""
    for run in (("scorer",), ("drift-worker",)):
        assert driftline(*run, "--print-settings").returncode == 0
        missing = driftline(*run, SCORER_MODEL="/none")
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1), missing.stderr
        assert "/none/manifest.json" in missing.stderr
    assert driftline("--version", by=("-m", "driftline")).stdout.startswith("driftline ")


def test_a_model_is_trained_served_and_asked_without_the_checkout(driftline) -> None:
    """The examples' files, a bundle, its signature, and one answer; each child process starts, too."""
    for command in (
        ("examples",),
        ("train", "--spec", "examples/telco.toml", "--data", "examples/telco_churn.csv"),
        ("keys",),
        ("sign", "--key", "artifacts/keys/private.pem", "artifacts/model"),
        ("bundle", "--spec", "examples/telco.toml", "--model", "artifacts/model/model.joblib",
         "--data", "examples/telco_churn.csv", "--out", "artifacts/bundled"),
        ("spec", "infer", "--data", "examples/telco_churn.csv", "--target", "churn"),
        ("topics", "create", "--print"),
    ):  # fmt: skip
        done = driftline(*command)
        assert done.returncode == 0, (command, done.stderr)
    refused = driftline("predict", "--model", "artifacts/model", "examples/telco.toml")
    assert "not_json" in refused.stderr, refused.stderr


def test_the_benchmark_is_named_as_part_of_the_repository(driftline) -> None:
    """Outside a checkout the command is one line, and starts nothing."""
    done = driftline("bench", "--quick")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "repository" in done.stderr


@pytest.mark.timeout(600)
def test_every_command_explains_itself_by_files_that_are_there(driftline) -> None:
    """Each help has an example; its files come from `driftline examples` or from another example's --out."""
    texts = helps(driftline)
    assert len(texts) > 30
    without = [name for name, text in texts.items() if "Example" not in text]
    assert without == []
    # a help is the text, its examples last, and then boxes of options
    shown = (text[text.index("Example") :].split("╭")[0] for text in texts.values())
    examples = " ".join(" ".join(text.split()) for text in shown) + " "
    made = set(re.findall(r"--out (\S+?)[`.]? ", examples)) | {"artifacts/model"}
    named = set(re.findall(r"(?:--(?:spec|data|model|current|candidate|key|labels)) ([a-z][\w./-]+?)[`.]? ", examples))
    there = {f"examples/{name}" for name in ("telco.toml", "churn5.toml", "telco_churn.csv")}
    absent = {n for n in named if n not in there and not any(n == m or n.startswith(f"{m}/") for m in made)}
    assert absent == set()


@pytest.mark.timeout(900)
def test_the_demo_runs_from_the_wheel(driftline, long: bool) -> None:
    """Broker, training, both services and the proof, in the folder with packages of our names."""
    if not long:
        pytest.skip("two minutes: --long")
    started = time.monotonic()
    done = driftline("demo", "--plain")
    assert done.returncode == 0, (time.monotonic() - started, done.stdout, done.stderr)
