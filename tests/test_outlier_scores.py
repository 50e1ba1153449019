import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist

from skmag._answers import Answers
from skmag._metrics import resolve_metric
from skmag._outlier_scores import (
    BaggedResidual,
    InlierGain,
    WholeSet,
    lower_fence,
    outlier_candidates,
)
from skmag._similarity import Similarity

T = 0.7
CPU = torch.device("cpu")


def solved(X, metric="euclidean", t=T):
    similarity = Similarity.of(torch.from_numpy(X), resolve_metric(metric, None), t)
    return Answers.of(similarity, "auto", CPU)


def bagged(X, samples, t=T, metric="euclidean"):
    data = torch.from_numpy(cdist(X, X) if metric == "precomputed" else X)
    bag, scores = BaggedResidual.of(data, resolve_metric(metric, None), t, samples)
    return bag, scores.numpy()


def residual(P, z, t=T):
    """Residual of one query beside distinct points, densely; 1 beside none."""
    if not len(P):
        return 1.0
    P = np.unique(P, axis=0)
    k = np.exp(-t * cdist(z[None], P)[0])
    return 1 - k @ np.linalg.solve(dense(P, t), k)


def samples_of(n, size, count, seed=0):
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(n, size, replace=False)) for _ in range(count)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_a_row_is_left_out_of_its_own_subsamples_and_its_copies_are_not(seed, copies):
    # Each row in turn is taken out by hand; a point with copies is the mean over its rows.
    X = normal(12, 2, seed)
    X[1:copies] = X[0]
    samples = samples_of(12, 5, 6, seed)
    _, scores = bagged(X, samples)
    by_row = [
        -np.mean([residual(X[own[own != i]], X[i]) for own in samples]) for i in range(len(X))
    ]
    by_row[:copies] = [np.mean(by_row[:copies])] * copies
    np.testing.assert_allclose(scores, by_row, atol=1e-10)


def test_queries_equal_to_training_rows_score_as_these():
    X = normal(40)
    X[7] = X[3]
    bag, scores = bagged(X, samples_of(40, 8, 12))
    np.testing.assert_allclose(bag.score(torch.from_numpy(X)), scores, rtol=1e-12)
    Z = normal(5, seed=1)
    expected = [-np.mean([residual(X[own], z) for own in samples_of(40, 8, 12)]) for z in Z]
    np.testing.assert_allclose(bag.score(torch.from_numpy(Z)), expected, rtol=1e-9)


def test_subsamples_of_distances_are_those_of_points():
    X, Z = normal(30), normal(4, seed=1)
    samples = samples_of(30, 6, 9)
    bag, scores = bagged(X, samples)
    table, of_table = bagged(X, samples, metric="precomputed")
    np.testing.assert_allclose(of_table, scores, rtol=1e-10)
    found = table.score(torch.from_numpy(cdist(Z, X)))
    np.testing.assert_allclose(found, bag.score(torch.from_numpy(Z)), rtol=1e-10)


def test_a_single_row_has_all_the_room():
    bag, scores = bagged(np.zeros((1, 2)), [np.array([0])] * 3)
    assert scores.tolist() == [-1.0]
    assert float(bag.score(torch.tensor([[0.0, 1e9]], dtype=torch.float64))[0]) == pytest.approx(
        -1.0
    )


@pytest.mark.parametrize("criterion", ["residual", "gain", "potential"])
@pytest.mark.parametrize("novelty", [False, True])
def test_the_whole_set_leaves_its_own_points_out(criterion, novelty):
    X, Z = normal(15), normal(4, seed=1)
    X[6] = X[2]
    answers = solved(X)
    scorer, scores = WholeSet.of(answers, criterion, novelty)
    for i in range(len(X)):
        others = solved(np.unique(X[(X[i] != X).any(axis=1)], axis=0))
        probe = others.probe(torch.from_numpy(X[i : i + 1]))
        expected = {
            "residual": -probe.residual,
            "gain": -others.gains(probe),
            "potential": probe.potential,
        }[criterion]
        assert scores[i] == pytest.approx(float(expected[0]), rel=1e-8)
    # As new points they are on points of the set, else they are scored as before.
    own = scorer.score(torch.from_numpy(X))
    on_point = 1.0 if criterion == "potential" else 0.0
    np.testing.assert_allclose(own, np.full(15, on_point) if novelty else scores, rtol=1e-9)
    fresh = scorer.score(torch.from_numpy(Z))
    both = scorer.score(torch.from_numpy(np.vstack([X[:3], Z])))
    np.testing.assert_allclose(both[3:], fresh, rtol=1e-9)


def test_the_papers_candidates_by_hand():
    weights = torch.tensor([0.1, 0.2, 0.1, -1.5, 2.0, 0.15], dtype=torch.float64)
    # Median .125, standard deviation 1.004.
    assert outlier_candidates(weights).tolist() == [False, False, False, False, True, False]
    weights[3] = -2.0
    assert outlier_candidates(weights).tolist() == [False, False, False, True, True, False]
    assert outlier_candidates(torch.tensor([1.0])).tolist() == [False]


def test_the_papers_gain_is_over_the_inliers():
    X = np.vstack([normal(60, 2), [[6.0, 6.0], [-7.0, 5.0]]])
    answers = solved(X, t=3.0)
    scorer, candidates = InlierGain.of(answers, "auto")
    found = candidates.numpy()[answers.similarity.group.numpy()]
    w = np.linalg.solve(dense(X, 3.0), np.ones(len(X)))
    assert found.tolist() == (abs(w) > np.median(w) + 1.5 * w.std()).tolist()
    assert found[-2:].all()
    inliers = np.linalg.inv(dense(X[~found], 3.0))
    k = np.exp(-3.0 * cdist(X[found], X[~found]))
    gain = (1 - k @ inliers.sum(1)) ** 2 / (1 - ((k @ inliers) * k).sum(1))
    scores = scorer.score(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(scores[found], -gain, rtol=1e-9)
    assert (scores[~found] == 0).all()


def test_without_candidates_all_are_inliers():
    X = np.array([[0.0, 0.0], [3.0, 0.0]])
    scorer, candidates = InlierGain.of(solved(X), "auto")
    assert not candidates.any()
    assert scorer.score(torch.from_numpy(X)).tolist() == [0.0, 0.0]


def test_without_inliers_the_paper_has_no_answer():
    answers = solved(normal(5))
    answers._weights = torch.tensor([-9.0, -9.0, -9.1, -9.0, 9.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"criterion='paper' finds no inliers at t=0\.7"):
        InlierGain.of(answers, "auto")


def test_the_lower_fence_is_that_of_a_box_plot():
    scores = np.arange(9.0)
    assert lower_fence(scores) == pytest.approx(2.0 - 1.5 * 4.0, rel=1e-9)
    # Equal scores are above it, also when they are rounded differently.
    assert 3.0 - 1e-8 < lower_fence(np.array([3.0])) < 3.0


def test_indefinite_similarities_have_no_room_to_compare():
    similarity = Similarity.of(
        torch.from_numpy(normal(60, 5)), resolve_metric("chebyshev", None), 0.01
    )
    with pytest.warns(UserWarning, match="not positive definite"):
        answers = Answers.of(similarity, "auto", CPU)
    for criterion in ("residual", "gain"):
        with pytest.raises(ValueError, match=rf"criterion='{criterion}' needs a positive definite"):
            WholeSet.of(answers, criterion, False)
    with pytest.raises(ValueError, match=r"metric='chebyshev' at t=0\.01"):
        InlierGain.of(answers, "auto")
    scorer, scores = WholeSet.of(answers, "potential", False)
    assert torch.isfinite(scores).all()
    assert torch.isfinite(scorer.score(torch.zeros(1, 5, dtype=torch.float64))).all()
