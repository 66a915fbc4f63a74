"""Known vulnerabilities of everything that is locked, and a CycloneDX bill of materials of the services.

`make audit`. Exit code 0: no vulnerability is known in services, tools and build. Exit code 1: at least one is known.
Exit code 3: for at least one package the vulnerability data was not available (offline, or a mirror without it), so its
state is unknown. The benchmarks' peers are listed and never fail the audit: no service runs beside them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Everything that is installed: the services, the tests and tools, the build, and programs in separate environments.
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
    """Return every lock file of Python packages, each once."""
    found = {path for pattern in LOCKS for path in ROOT.glob(pattern)}
    return sorted(path for path in found if "--hash=sha256:" in path.read_text(encoding="utf-8"))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return a program of the environment that runs this."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


def audit(path: Path) -> tuple[int, list[str], list[str]]:
    """Return the number of packages in a lock file, their vulnerabilities, and packages without a look-up."""
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
    """Write the bill of the images' content; return the number of components."""
    BILL.parent.mkdir(exist_ok=True)
    made = tool("cyclonedx-py", "requirements", "requirements.lock", "--output-reproducible", "--of", "JSON")
    if made.returncode:
        sys.exit(f"cyclonedx-py: {made.stderr.strip()[-500:]}")
    document = json.loads(made.stdout)
    for component in document["components"]:
        # the whole line of the lock file, hashes included, which are in the component already
        component["description"] = re.sub(r"\s*--hash=\S+", "", component.get("description", "")).strip()
    BILL.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return len(document["components"])


def main() -> int:
    """Audit every lock file, then write the bill."""
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
            f"audit: no vulnerability data for {unknown} packages: their state is unknown (offline?)",
            file=sys.stderr,
        )
        return UNKNOWN
    return 0


if __name__ == "__main__":
    sys.exit(main())
