"""What `driftline report --evidently` runs in an environment of its own, and what is pinned there."""
