"""``python -m driftline`` is the same as ``driftline``."""

from driftline.cli import main

main()
