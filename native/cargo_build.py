"""Builds the library with cargo and puts it into the wheel: the hook that hatchling calls."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "libdriftline_native.dylib" if sys.platform == "darwin" else "libdriftline_native.so"


class CargoBuild(BuildHookInterface):
    """One wheel for every Python from 3.11 on, of this system."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build what Cargo.lock names; CalledProcessError with cargo's words on standard error if that fails."""
        target = Path(self.root, "target")
        command = ["cargo", "build", "--release", "--locked", "--target-dir", str(target)]
        subprocess.run(command, cwd=self.root, check=True)
        built = target / "release" / LIBRARY
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["pure_python"] = False
        build_data["force_include"][str(built)] = "driftline_native.abi3.so"
