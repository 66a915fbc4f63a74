"""`make smoke`: the Compose stack under a separate name, brought up, used, broken, and taken down again.

One line per step; exit code 0 if all held, 1 if one did not, 2 if it could not begin. Needs only Docker Compose: it
queries the services over their published ports and from inside the containers. The machine chooses the ports, so that a
running stack does not conflict with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = "driftline-smoke"
# Only failures wait this long; a first `up` with its builds has longer.
WAIT_S = 300
UP_S = 1800
CUSTOMERS = "/opt/driftline/examples/telco_churn.csv"
EVENTS, BAD = 2000, 20
RATE, STREAM_EVENTS = 200, 4000  # long enough to be in the middle of, when a scorer is killed twice
# The commands that run inside a container to inspect it; busybox has all of it.
LOOK = "cat /proc/1/status; grep ' / ' /proc/mounts; touch /written-by-smoke 2>&1; true"
# Kills the scorer, which is not process 1 and so may be killed from inside.
CRASH = """
import os, signal
for pid in filter(str.isdecimal, os.listdir("/proc")):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        program, command = (file.read().split(b"\\0") + [b"", b"", b""])[1:3]
        if program.endswith(b"/driftline") and command == b"scorer":
            os.kill(int(pid), signal.SIGKILL)
"""
SCORED = "sum by (outcome) (driftline_scorer_records_total)"


class Failed(Exception):  # noqa: N818 - it ends a sentence: a step has failed
    """A step did not hold."""


def need(holds: object, why: str) -> None:
    """Fail with `why` unless it holds."""
    if not holds:
        raise Failed(why)


def until(holds: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    """Wait for a condition; Failed if it is not met in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        need(time.monotonic() < deadline, f"not within {seconds:g} s: {what}")
        time.sleep(0.5)


def run(*words: str, check: bool = True, timeout: float = UP_S) -> subprocess.CompletedProcess[str]:
    """Return a command's output. Failed with its last lines unless it ends with 0, or need not."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout)
    if check and done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise Failed(f"{' '.join(words[:12])} …: exit code {done.returncode}\n{said}")
    return done


def resolved(variant: str, without: list[str]) -> dict[str, Any]:
    """Return the stack as Compose reads it, with free ports. Services without an available image are left out."""
    files = ["docker-compose.yml", *([f"compose.{variant}.yml"] if variant else [])]
    words = [word for file in files for word in ("-f", file)]
    stack = json.loads(
        run("docker", "compose", "-p", PROJECT, *words, "--profile", "*", "config", "--format", "json").stdout
    )
    for name in without:
        need(stack["services"].pop(name, None), f"no service {name}")
    for name, service in stack["services"].items():
        for other in without:
            need(other not in service.get("depends_on", {}), f"{name} needs {other}")
        for port in service.get("ports", ()):
            need(port.get("host_ip") == "127.0.0.1", f"{name} publishes {port}")
            port.pop("published", None)
    return stack


class Stack:
    """The running stack: queries and commands."""

    def __init__(self, stack: dict[str, Any], file: Path) -> None:
        file.write_text(json.dumps(stack), encoding="utf-8")
        self.services: dict[str, Any] = stack["services"]
        self._compose = ("docker", "compose", "-p", PROJECT, "-f", str(file))

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `docker compose …`."""
        return run(*self._compose, *words, check=check)

    def up(self, *words: str) -> None:
        """Bring services up and wait until they are healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(WAIT_S), *words)

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return `docker inspect` of the running ones."""
        labels = [f"com.docker.compose.project={PROJECT}", "com.docker.compose.oneoff=False"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        ids = run("docker", "ps", "--quiet", *filters).stdout.split()
        return json.loads(run("docker", "inspect", *ids).stdout) if ids else []

    def job(self, service: str, *words: str, entrypoint: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in a separate container, with the service's environment and volumes."""
        how = ["--entrypoint", entrypoint] if entrypoint else []
        return self.compose("run", "--rm", "-T", "--no-deps", *how, service, *words, check=False)

    def produce(self, *words: str) -> tuple[str, ...]:
        """Return the command that sends events."""
        return ("driftline", "produce", "--data", CUSTOMERS, "--json", *words)

    def start(self, service: str, *words: str) -> subprocess.Popen[str]:
        """Start a command as in `job`, in the background."""
        command = (*self._compose, "run", "--rm", "-T", "--no-deps", service, *words)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def get(self, service: str, port: int, path: str) -> Any:
        """Return JSON from a published port; None while no service answers."""
        address = self.compose("port", service, str(port)).stdout.strip()
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def query(self, expression: str) -> dict[str, float]:
        """Return Prometheus's present result: the only label's value, or empty, → number."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        found = self.get("prometheus", 9090, path) or {"data": {"result": []}}
        return {",".join(row["metric"].values()): float(row["value"][1]) for row in found["data"]["result"]}


def comes_up(stack: Stack) -> str:
    """Start from the images: every container becomes healthy."""
    stack.up()
    states = {c["Name"].lstrip("/"): c["State"].get("Health", {}).get("Status") for c in stack.containers()}
    need(states and set(states.values()) == {"healthy"}, f"not all healthy: {states}")
    return f"{len(states)} containers are healthy: {', '.join(name.removeprefix(f'{PROJECT}-') for name in states)}"


def is_hardened(stack: Stack) -> str:
    """Check the hardening from inside of every running container, and in the engine what no container sees."""
    containers = stack.containers()
    for container in containers:
        name, limits = container["Name"], container["HostConfig"]
        seen = run("docker", "exec", container["Id"], "sh", "-c", LOOK).stdout
        status = dict(line.split(":\t", 1) for line in seen.splitlines() if ":\t" in line)
        need("0" not in status["Uid"].split(), f"{name} runs as root")
        capabilities = {int(status[f"Cap{kind}"], 16) for kind in ("Eff", "Prm", "Bnd", "Inh")}
        need(capabilities == {0}, f"{name} has capabilities")
        need(status["NoNewPrivs"] == "1", f"{name} may gain privileges")
        root = next(line.split() for line in seen.splitlines() if line.split()[1:2] == ["/"])
        need("ro" in root[3].split(","), f"{name}: / is writable")
        need("Read-only file system" in seen, f"{name} wrote to /")
        need(limits["Memory"] > 0 and limits["PidsLimit"] and limits["NanoCpus"] > 0, f"{name} has no limits")
        for bindings in (container["NetworkSettings"]["Ports"] or {}).values():
            need({b["HostIp"] for b in bindings or ()} <= {"127.0.0.1"}, f"{name} is published beyond 127.0.0.1")
    return f"{len(containers)} containers: not root, no capabilities, no new privileges, / read-only, limits, 127.0.0.1"


def events_are_scored(stack: Stack) -> str:
    """Send events; check predictions and dead letters, and that Prometheus has scraped them."""
    sent = stack.job("producer", *stack.produce("--rate", "1000", "--count", str(EVENTS), "--bad-records", str(BAD)))
    need(sent.returncode == 0, sent.stderr)
    wanted = {"predicted": EVENTS - BAD, "dead_lettered": BAD, "ignored": 0}
    until(lambda: stack.query(SCORED) == wanted, f"Prometheus has scraped {wanted}")
    return f"{EVENTS} events → {EVENTS - BAD} predictions + {BAD} dead letters, seen by Prometheus"


def is_verified(stack: Stack) -> str:
    """Run `driftline verify`, with every score computed again."""
    return verdict(stack, "verify", "--model", "/model")


def verdict(stack: Stack, *words: str) -> str:
    """Return what `driftline verify` finds when all events are answered.

    Failed if one is lost, doubled or never answered.
    """
    said = ""

    def answered() -> bool:
        nonlocal said
        done = stack.job("driftline", *words)
        said = "; ".join(done.stdout.strip().splitlines())
        # answers may still be missing; a lost or doubled one is final
        need(" 0 lost, 0 duplicated" in said or "exactly once" not in said, said)
        return done.returncode == 0

    until(answered, "every event is answered exactly once")
    return said


def alertmanager_listens(stack: Stack) -> str:
    """Check that Prometheus sends alerts there."""

    def sends() -> bool:
        known = stack.get("prometheus", 9090, "/api/v1/alertmanagers")
        return bool(known and known["data"]["activeAlertmanagers"])

    until(sends, "Prometheus sends alerts to the Alertmanager")
    return "Prometheus sends alerts to Alertmanager"


def survives_kills(stack: Stack) -> str:
    """Send SIGKILL to the container and to the process, under load: both restart, and no event is lost."""
    (before,) = stack.containers("scorer")
    producer = stack.start("producer", *stack.produce("--rate", str(RATE), "--count", str(STREAM_EVENTS)))
    answered = lambda: sum(stack.query("sum(driftline_scorer_records_total)").values())  # noqa: E731
    begun = answered()
    until(lambda: answered() > begun, "events of the new stream are scored")
    stack.compose("kill", "--signal", "KILL", "scorer")
    need(not stack.containers("scorer"), "the scorer runs after SIGKILL")
    stack.up("--no-deps", "--no-recreate", "scorer")  # an engine does not restart what was killed through it
    run("docker", "exec", before["Id"], "python", "-c", CRASH)

    def back() -> bool:
        found = stack.containers("scorer")
        return bool(found) and found[0]["RestartCount"] == 1 and found[0]["State"]["Health"]["Status"] == "healthy"

    until(back, "the scorer is started again after a crash, and healthy")
    out, errors = producer.communicate(timeout=WAIT_S)
    need(producer.returncode == 0, errors)
    return f"a scorer killed twice among {json.loads(out)['records']} events; {verdict(stack, 'verify')}"


def scales(stack: Stack) -> str:
    """Scale to three scorers: they share four partitions, and Prometheus finds them."""
    stack.up("--no-deps", "--no-recreate", "--scale", "scorer=3", "scorer")
    shares = "sum by (instance) (driftline_scorer_assigned_partitions) and on (instance) (up == 1)"
    until(lambda: sorted(stack.query(shares).values()) == [1, 1, 2], "three scorers share four partitions")
    return "three scorers have 1, 1 and 2 of four partitions"


def refuses(stack: Stack) -> str:
    """Connect without credentials, with a wrong password, and as another user: all are rejected."""
    names = ("KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD_FILE")
    unset = [word for name in names for word in ("-u", name)]
    tries = {
        "in plain text": [*unset, "KAFKA_SECURITY_PROTOCOL=PLAINTEXT"],
        "with TLS and no password": [*unset, "KAFKA_SECURITY_PROTOCOL=SSL"],
        "with a wrong password": ["-u", "KAFKA_SASL_PASSWORD_FILE", "KAFKA_SASL_PASSWORD=guessed"],
    }
    for how, changes in tries.items():
        done = stack.job("driftline", *changes, "driftline", "verify", entrypoint="env")
        need(done.returncode == 1 and "cannot verify" in done.stderr, f"{how}: {done.returncode} {done.stderr}")
    done = stack.job("producer", "driftline", "verify")
    need(done.returncode == 1 and "TopicAuthorizationFailed" in done.stderr, f"upstream may read: {done.stderr}")
    return f"refused: a client {', '.join(tries)}, and upstream's user as a reader"


def loses_a_broker(stack: Stack) -> str:
    """Kill one of three brokers: events are taken and answered, and it comes back."""
    stack.compose("kill", "--signal", "KILL", "kafka-2")
    sent = stack.job("producer", *stack.produce("--rate", "1000", "--count", str(EVENTS)))
    need(sent.returncode == 0, sent.stderr)
    said = verdict(stack, "verify")
    stack.up("--no-deps", "--no-recreate", "kafka-2")
    return f"with two of three brokers: {said}"


STEPS: dict[str, tuple[Callable[[Stack], str], ...]] = {
    "": (),
    "secure": (refuses,),
    "cluster": (loses_a_broker,),
}


def steps(variant: str, services: dict[str, Any]) -> Iterator[Callable[[Stack], str]]:
    """Return the steps, in order."""
    yield from (comes_up, is_hardened, events_are_scored, is_verified)
    if "alertmanager" in services:
        yield alertmanager_listens
    yield from STEPS[variant]
    yield from (survives_kills, scales)


def main() -> int:
    """Run the steps; return the exit code."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--variant", choices=list(STEPS), default="", help="with compose.VARIANT.yml, too")
    arguments.add_argument("--without", action="append", default=[], help="leave a service out, such as grafana")
    arguments.add_argument("--no-build", dest="build", action="store_false", help="take the images as they are")
    arguments.add_argument("--keep", action="store_true", help="leave the stack up")
    given = arguments.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            stack = Stack(resolved(given.variant, given.without), Path(folder) / "compose.json")
            stack.compose("--profile", "*", "down", "--volumes", "--timeout", "0")  # what an earlier run left
            if given.build:
                stack.compose("build", "scorer", "drift-worker")
        except (Failed, OSError) as error:
            print(f"smoke: cannot begin: {error}", file=sys.stderr)
            return 2
        try:
            for step in steps(given.variant, stack.services):
                step_began = time.monotonic()
                print(f"✓ {step(stack)} ({time.monotonic() - step_began:.0f} s)", flush=True)
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"✗ {step.__name__.replace('_', ' ')}: {error}", flush=True)
            print(stack.compose("ps", "--all", check=False).stdout, file=sys.stderr)
            print(stack.compose("logs", "--tail", "30", "--no-color", check=False).stdout, file=sys.stderr)
            return 1
        finally:
            if not given.keep:
                stack.compose("--profile", "*", "down", "--volumes", "--timeout", "30", check=False)
    print(f"smoke: all held in {time.monotonic() - began:.0f} s" + f" ({given.variant})" * bool(given.variant))
    return 0


if __name__ == "__main__":
    sys.exit(main())
