"""How long a partition waits before it starts over; the rest of its life is in tests/deterministic."""

import pytest

from kafka_runtime.owned_partition import back_off_s


@pytest.mark.parametrize(
    ("scarce", "seconds"), [(False, [2.2, 2.2, 3, 4, 5, 5]), (True, [3, 6, 9, 12, 15, 30])], ids=["usual", "scarce"]
)
def test_without_file_descriptors_a_partition_waits_for_longer(scarce, seconds):
    """No attempt can succeed then, and every partition writes lines about each."""
    assert [back_off_s(failures, scarce=scarce) for failures in (1, 2, 3, 4, 5, 50)] == seconds
