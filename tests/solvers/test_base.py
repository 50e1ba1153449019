"""Where warnings point to."""

import warnings

import numpy as np

from skmag import NotPositiveDefiniteWarning, weighting


def indefinite():
    """Distances of the complete bipartite graph K(3, 3), at a scale at which zeta is indefinite."""
    side = np.repeat([0, 1], 3)
    return np.where(side[:, None] == side, 2.0, 1.0) - 2 * np.eye(6)


def test_a_warning_points_to_code_that_is_executed_without_a_name():
    code = compile("\n\nweighting(D, t=0.1, metric='precomputed')", "<entered>", "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(code, {"weighting": weighting, "D": indefinite()})
    assert [each.category for each in caught] == [NotPositiveDefiniteWarning]
    assert (caught[0].filename, caught[0].lineno) == ("<entered>", 3)


def test_a_warning_points_to_the_callers_line():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weighting(indefinite(), t=0.1, metric="precomputed")
    assert caught[0].filename == __file__
