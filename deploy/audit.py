"""Known vulnerabilities of everything that is locked, and a CycloneDX bill of materials of the services.

`make audit`. Exit codes: 0 nothing is known against what services, tools and build are made of; 1 something is; 3 the
vulnerability data could not be asked for at least one package (offline, or a mirror that has none), so that nothing is
said about it. What the benchmarks' peers are made of is listed, and fails nothing: no service runs beside them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What is installed somewhere: the services, the tests and tools, the build, and programs in environments of their own.
LOCKS = (
    "requirements*.lock",
    "driftline/*/*.lock",
    "driftline/*/*/*.lock",
    "tests/*/*.lock",
    "tests/*/*/*.lock",
    "deploy/*.lock",
)
BILL = ROOT / "artifacts" / "sbom.cdx.json"
UNKNOWN = 3


def locks() -> list[Path]:
    """Every lock file of Python packages, each once."""
    found = {path for pattern in LOCKS for path in ROOT.glob(pattern)}
    return sorted(path for path in found if "--hash=sha256:" in path.read_text(encoding="utf-8"))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of the environment that runs this."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def audit(path: Path) -> tuple[int, list[str], list[str]]:
    """How many packages a lock file has, what is known against them, and which could not be looked up."""
    asked = tool(
        "pip-audit",
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner",
        "off",
        "--format",
        "json",
        "-r",
        str(path),
    )
    try:
        found = json.loads(asked.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        last = (asked.stderr.strip().splitlines() or ["no answer"])[-1]
        return 0, [], [f"all of it ({last[:200]})"]
    known = [f"{p['name']} {p['version']}: {v['id']}" for p in found for v in p.get("vulns", ())]
    return len(found), known, [p["name"] for p in found if "skip_reason" in p]


def bill() -> int:
    """Write the bill of what the images hold; how many components it has."""
    BILL.parent.mkdir(exist_ok=True)
    made = tool("cyclonedx-py", "requirements", "requirements.lock", "--output-reproducible", "--of", "JSON")
    if made.returncode:
        sys.exit(f"cyclonedx-py: {made.stderr.strip()[-500:]}")
    document = json.loads(made.stdout)
    for component in document["components"]:
        # the whole line of the lock file, hashes included, which stand in the component already
        component["description"] = re.sub(r"\s*--hash=\S+", "", component.get("description", "")).strip()
    BILL.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return len(document["components"])


def main() -> int:
    """Every lock file, then the bill."""
    against, unknown = 0, 0
    for path in locks():
        packages, known, skipped = audit(path)
        unknown += len(skipped)
        against += len(known) if path.parent == ROOT or path.parent.name == "deploy" else 0
        said = f"{len(known)} known vulnerabilities" if not skipped else f"{len(skipped)} could not be looked up"
        print(f"{path.relative_to(ROOT)}: {packages} packages, {said}")
        for line in known:
            print(f"  {line}")
    print(f"{BILL.relative_to(ROOT)}: {bill()} components (CycloneDX)")
    if against:
        return 1
    if unknown:
        print(
            f"audit: no vulnerability data for {unknown} packages: nothing is said about them (offline?)",
            file=sys.stderr,
        )
        return UNKNOWN
    return 0


if __name__ == "__main__":
    sys.exit(main())
