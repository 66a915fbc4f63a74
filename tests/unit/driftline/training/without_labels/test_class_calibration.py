"""The calibration of several classes: a band as wide as the model is wrong about a part of the customers."""

import numpy as np
import pytest

from driftline.training.without_labels.class_calibration import calibrate_classes
from schemas.bundle.inputs import Feature
from schemas.features import Layout

CLASSES = ("a", "b", "c")
LAYOUT = Layout((Feature(name="group", kind="categorical", categories=("x", "y")), Feature(name="age", kind="numeric")))


def _columns(rows):
    return LAYOUT.columns([[("x", "y")[i % 2] for i in range(rows)], [float(i % 7) for i in range(rows)]])


def _drawn(shares, draw):
    return (draw.random(len(shares))[:, None] > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("blind", [False, True])
def test_the_band_is_as_wide_as_the_model_is_wrong_about_a_part_of_the_customers(blind):
    """Class a has 90 % of the one half and 30 % of the other. A model that does not know it promises 60 % of both."""
    draw, n = np.random.default_rng(3), 4000
    truth = np.where((np.arange(n) % 2 == 0)[:, None], [0.9, 0.07, 0.03], [0.3, 0.36, 0.34])
    known = np.tile([0.6, 0.22, 0.18], (n, 1)) if blind else truth
    probabilities = known + draw.uniform(0, 1e-3, (n, 3))
    probabilities /= probabilities.sum(axis=1, keepdims=True)

    found = calibrate_classes(_drawn(truth, draw), probabilities, CLASSES, _columns(n), 42)

    # one half four times as often: (.9 + 4 x .3) / 5 = .42 instead of .6; tilted by e to either side: .37
    assert 0.18 < found.band["accuracy"] < 0.24 if blind else found.band["accuracy"] < 0.03
    assert (found.class_band["a"]["precision"] > 0.15) == blind
    assert (found.rows, tuple(found.curves)) == (n, CLASSES)


def test_too_few_of_a_class_or_too_many_classes_have_no_calibration():
    """Folds need five rows of each; of more than ten classes predictions hold the likeliest ones."""
    draw = np.random.default_rng(4)
    p = draw.dirichlet(np.ones(3), 300)
    outcome = np.where(np.arange(300) < 4, 2, np.arange(300) % 2)
    assert calibrate_classes(outcome, p, CLASSES, _columns(300), 1) is None
    many = tuple(f"c{k:02}" for k in range(11))
    assert calibrate_classes(np.arange(330) % 11, draw.dirichlet(np.ones(11), 330), many, _columns(330), 1) is None
