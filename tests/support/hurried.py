"""Runs a service with constants of its code made smaller, so that what takes minutes takes seconds.

python hurried.py scorer kafka_runtime.clients.REQUEST_TIMEOUT_MS=1500 …
"""

from __future__ import annotations

import importlib
import runpy
import sys

module, *constants = sys.argv[1:]
for constant in constants:
    path, _, value = constant.partition("=")
    home, _, name = path.rpartition(".")
    owner = importlib.import_module(home)
    setattr(owner, name, type(getattr(owner, name))(float(value)))
sys.argv = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
