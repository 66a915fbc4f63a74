"""Why a record is rejected, as one line that is safe in a header and a log."""

from schemas.rejection_reasons import MAX_DETAIL_BYTES, Reason, RejectedError


def test_a_detail_is_one_ascii_line_of_at_most_512_bytes():
    """Names in it come out of a stranger's event."""
    found = RejectedError(Reason.ENVELOPE, "caf\xe9 \x1b[31m\nred \u2028 " + "x" * 600, ["features", "a"]).rejection
    assert found.detail.startswith("caf\\xe9  [31m red \\u2028 x")
    assert len(found.detail.encode("ascii")) == MAX_DETAIL_BYTES
    assert found.path == ("features", "a")
    assert found.reason is Reason.ENVELOPE


def test_reasons_are_words_of_a_metrics_label():
    """Lower case and underscores: the header, the label and the runbook use the same."""
    assert all(reason.value == reason.name.lower() for reason in Reason)
