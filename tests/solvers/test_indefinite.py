import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch
from reference import QUESTIONS, dense_questions
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from skmag import NotPositiveDefiniteWarning, weighting
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import indefinite
from skmag._solvers._base import IndefiniteError
from skmag._solvers._indefinite import _pivot_values


def bipartite(a, b):
    """Shortest paths of a complete bipartite graph."""
    side = np.arange(a + b) < a
    return shortest_path(side[:, None] != side, unweighted=True)


def quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
        return weighting(*args, metric="precomputed", **kwargs)


@pytest.mark.parametrize(("a", "b", "t"), [(3, 3, 0.3), (2, 5, 0.2), (4, 3, 0.4)])
def test_a_space_that_is_not_of_negative_type_is_solved_with_a_warning(a, b, t):
    D = bipartite(a, b)
    zeta = np.exp(-t * D)
    assert np.linalg.eigvalsh(zeta)[0] < -0.01
    pattern = rf"n={a + b} points under metric='precomputed' at t={t} is not positive definite"
    with pytest.warns(NotPositiveDefiniteWarning, match=pattern):
        space = weighting(D, t=t, metric="precomputed")
    assert space.solver == "indefinite"
    assert "not positive definite" in space.reason
    np.testing.assert_allclose(zeta @ space.weights, 1.0, rtol=1e-13)
    assert space.magnitude == pytest.approx(np.linalg.inv(zeta).sum(), rel=1e-12)


def test_asking_for_the_indefinite_solver_accepts_it_without_a_warning():
    D = bipartite(3, 3)
    space = weighting(D, t=0.3, metric="precomputed", solver="indefinite")
    np.testing.assert_allclose(np.exp(-0.3 * D) @ space.weights, 1.0, rtol=1e-13)


def test_the_warning_speaks_of_rounding_where_theory_excludes_it():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2)))
    similarity = Similarity.of(points, resolve_metric("euclidean", None))
    with pytest.warns(NotPositiveDefiniteWarning, match=r"pivot 3.*of negative type.*rounding"):
        prepared = indefinite(similarity, IndefiniteError("pivot 3 of 5 is not positive"))
    magnitude = weighting(points.numpy()).magnitude
    assert prepared.magnitude() == pytest.approx(magnitude, rel=1e-13)


def test_the_warning_points_to_the_caller():
    D = bipartite(3, 3)
    with pytest.warns(NotPositiveDefiniteWarning) as caught:
        weighting(D, t=0.3, metric="precomputed")
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize("t", [0.1, 0.3, 0.5])
def test_questions_follow_the_dense_inverse_signs_and_all(t):
    D = bipartite(3, 3)
    inverse = np.linalg.inv(np.exp(-t * D))
    Z = np.array([[1.0, 1, 1, 2, 2, 2], [3, 3, 3, 2, 2, 2], [0.5, 1.5, 1.5, 1, 1, 1]])
    space = quiet(D, t=t)
    for name, expected in dense_questions(inverse, np.exp(-t * Z)).items():
        np.testing.assert_allclose(getattr(space, name)(Z), expected, rtol=1e-10, err_msg=name)
    diagonal = np.diag(inverse)
    own = space.leave_one_out()
    np.testing.assert_allclose(own.residual, 1 / diagonal, rtol=1e-11)
    np.testing.assert_allclose(space.loss(), inverse.sum(1) ** 2 / diagonal, rtol=1e-11)
    assert (own.residual < 0).all() == (t == 0.5)


def test_queries_on_points_are_exact_here_too():
    D = bipartite(3, 3)
    space = quiet(D, t=0.3)
    assert space.residual(D).tolist() == [0.0] * 6
    assert space.gain(D).tolist() == [0.0] * 6
    assert space.potential(D).tolist() == [1.0] * 6
    np.testing.assert_allclose(space.joining_weight(D), space.weights / 2, rtol=1e-14)


@pytest.mark.parametrize("d", [2, 30])
@pytest.mark.parametrize("t", [1e-9, 1.0])
def test_agrees_with_cholesky_where_both_apply(d, t):
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(40, d)), rng.normal(size=(5, d))
    here, there = weighting(X, t=t, solver="indefinite"), weighting(X, t=t, solver="cholesky")
    np.testing.assert_allclose(here.weights, there.weights, rtol=1e-9, atol=1e-12)
    for name in QUESTIONS:
        found, expected = getattr(here, name)(Z), getattr(there, name)(Z)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13, err_msg=name)
    np.testing.assert_allclose(here.loss(), there.loss(), rtol=1e-9, atol=1e-13)


SINGULAR = {
    # Leinster, The magnitude of metric spaces, Example 2.2.7: no weighting; rounded in two ways.
    "K32": (3, 2, np.log(2) / 2, ["auto", "cholesky", "mixed", "indefinite"]),
    "K32 rounded": (3, 2, np.log(np.sqrt(2)), ["auto", "cholesky", "mixed", "indefinite"]),
    # Many weightings, one of which the refinement of mixed finds.
    "K33": (3, 3, np.log(2), ["auto", "cholesky", "indefinite"]),
}


@pytest.mark.parametrize(
    ("space", "solver"), [(name, solver) for name, row in SINGULAR.items() for solver in row[3]]
)
def test_a_singular_similarity_is_refused_in_any_order(space, solver):
    a, b, t, _ = SINGULAR[space]
    D = bipartite(a, b)
    assert abs(np.linalg.eigvalsh(np.exp(-t * D))).min() < 1e-15
    answered = []
    for order in itertools.islice(itertools.permutations(range(a + b)), 0, None, 7):
        try:
            answered.append(quiet(D[np.ix_(order, order)], t=t, solver=solver).magnitude)
        except np.linalg.LinAlgError as error:
            assert "singular" in str(error) or "ill-conditioned" in str(error)  # noqa: PT017
    assert not answered


def test_the_refusal_names_the_closest_rows():
    D = bipartite(3, 2)[np.ix_([0, 0, 1, 2, 3, 4], [0, 0, 1, 2, 3, 4])]
    pattern = r"n=5 distinct points at t=0\.3.*singular.*rows 0 and 4, at distance 1\.0"
    with pytest.raises(np.linalg.LinAlgError, match=pattern):
        quiet(D, t=np.log(2) / 2, solver="indefinite")


def test_near_a_singular_scale_there_is_an_answer():
    t = np.log(2) / 2 + 1e-6
    zeta = np.exp(-t * bipartite(3, 2))
    space = quiet(bipartite(3, 2), t=t)
    np.testing.assert_allclose(zeta @ space.weights, 1.0, atol=1e-9)


def test_a_definite_space_may_become_indefinite_and_back():
    D = bipartite(3, 3)
    rows = [0, 1, 3, 4]
    start = weighting(D[np.ix_(rows, rows)], t=0.3, metric="precomputed")
    assert start.solver == "cholesky"
    order = [*rows, 2, 5]
    with pytest.warns(NotPositiveDefiniteWarning):
        grown = start.extend(D[np.ix_([2, 5], order)])
    assert grown.solver == "indefinite"
    np.testing.assert_allclose(np.exp(-0.3 * D) @ grown.weights, 1.0, rtol=1e-12)
    back = grown.drop([4, 5])
    np.testing.assert_allclose(back.weights, start.weights, rtol=1e-12)


def test_pickles_answer_alike():
    D = bipartite(3, 3)
    space = quiet(D, t=0.3)
    twin = pickle.loads(pickle.dumps(space))
    Z = D[:3] + 0.5
    for name in QUESTIONS:
        assert getattr(twin, name)(Z).tolist() == getattr(space, name)(Z).tolist()


def test_a_host_metric_that_is_indefinite_is_solved():
    X = np.random.default_rng(1).normal(size=(60, 2))
    zeta = np.exp(-(cdist(X, X) ** 4))
    assert np.linalg.eigvalsh(zeta)[0] < 0
    with pytest.warns(NotPositiveDefiniteWarning, match="metric=<function"):
        space = weighting(X, metric=lambda a, b: float(((a - b) ** 2).sum() ** 2))
    np.testing.assert_allclose(zeta @ space.weights, 1.0, atol=1e-8)


def test_pivots_of_two_by_two_blocks_are_read_from_both_sides():
    matrix = torch.tensor([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    # The first belongs to the anchor, which is eliminated already.
    padded = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), matrix)
    compact, pivots, _ = torch.linalg.ldl_factor_ex(padded)
    values = _pivot_values(compact, pivots)
    assert sorted(values.tolist()) == pytest.approx([-2.0, 0.5, 2.0])
