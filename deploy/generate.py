"""`python -m deploy.generate` (`make docs`): docs/metrics.md and the dashboards. A test fails when one is stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy import metrics_page
from deploy.dashboards import business, data, technical

ROOT = Path(__file__).parents[1]


def files() -> dict[str, str]:
    """Return every generated file: path from the repository's root → text."""
    return {
        metrics_page.PATH: metrics_page.page(),
        "deploy/grafana/dashboards/technical.json": technical.DASHBOARD,
        "deploy/grafana/dashboards/data.json": data.DASHBOARD,
        "deploy/grafana/dashboards/business.json": business.DASHBOARD,
    }


def main() -> int:
    """Write every file that differs; with --check only name them, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m deploy.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write no file; exit 1 if a file is stale")
    check = parser.parse_args().check
    stale = [name for name, text in files().items() if not (ROOT / name).is_file() or (ROOT / name).read_text() != text]
    for name in stale:
        sys.stdout.write(f"{name}: {'stale' if check else 'written'}\n")
        if not check:
            (ROOT / name).write_text(files()[name], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
