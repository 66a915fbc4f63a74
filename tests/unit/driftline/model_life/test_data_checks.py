"""What a person should know about a file beside a model: shares of missing and unseen values, and what is left out."""

import numpy as np
import pytest
from support import bundles
from support.events import FEATURES

from driftline.model_life.data_checks import bundle_remarks, defects, remarks, shares
from schemas.features import Layout

ROWS = 1000


def _columns(**changes):
    """The small bundle's features, a thousand alike rows; `changes` gives a feature other values."""
    good = {"tenure": 12, "monthly_charges": 70.35, "total_charges": 844.2, "contract": "One year", "payment": "Mail"}
    good |= {"senior": False, "partner": True}
    values = [changes.get(feature.name, [good[feature.name]] * ROWS) for feature in FEATURES]
    return Layout(FEATURES).columns(values)


def test_every_feature_has_its_shares():
    """A category that was written otherwise is unseen; a missing value is not."""
    found = shares(_columns(contract=["One year.0"] * 600 + ["One year"] * 400, payment=[None] * 250 + ["Mail"] * 750))
    assert list(found) == [feature.name for feature in FEATURES]
    assert found["contract"] == {"missing": 0.0, "unseen": 0.6}
    assert found["payment"] == {"missing": 0.25, "unseen": 0.0}
    assert found["tenure"] == {"missing": 0.0, "unseen": 0.0}


@pytest.mark.parametrize(("share", "shown"), [(1.0, "100.0 %"), (0.0123, "1.2 %"), (0.0004, "under 0.1 %")])
def test_a_share_above_zero_is_never_shown_as_zero(share, shown):
    """However small it is."""
    assert remarks({"plan": {"missing": share, "unseen": 0.0}}) == [f"missing values: plan in {shown} of the rows"]


def test_the_largest_share_comes_first_and_nothing_is_no_line():
    """Unseen before missing."""
    found = {"a": {"missing": 0.0, "unseen": 0.1}, "b": {"missing": 0.5, "unseen": 0.9}}
    assert remarks(found) == [
        "unseen categories: b in 90.0 %, a in 10.0 % of the rows",
        "missing values: b in 50.0 % of the rows",
    ]
    assert remarks({"a": {"missing": 0.0, "unseen": 0.0}}) == []


def test_an_empty_column_is_broken_data_only_where_the_reference_has_values():
    """Not where it was accepted, and not where the model never had any."""
    reference = bundles.reference()
    columns = _columns(total_charges=[None] * ROWS)
    customers = np.arange(ROWS)
    named = "total_charges: missing in every row"
    assert named in defects(reference, columns, customers)
    assert named not in defects(reference, columns, customers, accepted=["total_charges"])
    reference.numeric[:, 2] = np.nan
    assert named not in defects(reference, columns, customers)


def test_a_new_bundle_is_remarked_on():
    """Columns without a feature, and features whose drift cannot be seen; a sound one is not."""
    assert bundle_remarks([], {}, 7, 5000) == []
    assert bundle_remarks([""], {}, 7, 5000) == ['left out: 1 column of the file, which the spec does not name: ""']
    found = bundle_remarks(["notes", "since"], {"income": 60}, 7, 5000)
    assert found[0] == "left out: 2 columns of the file, which the spec does not name: notes, since"
    assert found[1].startswith("warning: drift of 1 of 7 features cannot be watched: income (60 values), and DRIFT_MIN")
