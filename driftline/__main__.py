"""``python -m driftline`` is the same as ``driftline``."""

import os
import sys

if sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib would be imported from there
    # `python -m` puts the current folder first: packages of the same names in that folder would be imported instead
    del sys.path[0]

from driftline.cli import main

main()
