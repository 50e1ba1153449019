import numpy as np
import pytest
import torch
from left_out import as_score, criterion_values, without
from reference import dense_inverse, normal
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from skmag._answers import Answers
from skmag._criteria import (
    CRITERIA,
    conformity,
    fit_slope,
    left_out_scores,
    log_probabilities,
    scores,
    settle_ties,
    values,
)
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity

CPU = torch.device("cpu")


def solved(X, t=1.0, solver="auto"):
    metric = resolve_metric("euclidean", None)
    return Answers.of(Similarity.of(torch.from_numpy(X), metric, t), solver, CPU)


def score_of(criterion, answers, Z):
    return scores(criterion, answers, answers.probe(torch.from_numpy(Z))).numpy()


@pytest.mark.parametrize("t", [0.05, 0.7, 5.0])
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_follow_from_the_weighting_of_points_and_query_together(criterion, d, t):
    X, Z = normal(20, d), normal(9, d, seed=1) * 2
    found = score_of(criterion, solved(X, t), Z)
    expected = [as_score(criterion, criterion_values(X, z, t)[criterion]) for z in Z]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert len(set(expected)) > 3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_copies_of_training_points_change_no_score(criterion):
    X, Z = normal(15), normal(6, seed=1)
    expected = score_of(criterion, solved(X), Z)
    np.testing.assert_allclose(
        score_of(criterion, solved(np.vstack([X, X[:5], X[:2]])), Z), expected, rtol=1e-12
    )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_values_undo_scores(criterion):
    X, Z = normal(20), normal(5, seed=1)
    found = values(criterion, score_of(criterion, solved(X), Z))
    expected = [criterion_values(X, z, 1.0)[criterion] for z in Z]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_on_a_point_of_the_class():
    X = normal(12)
    X = np.vstack([X, X[:1], X[:1]])
    answers, w = solved(X), dense_inverse(X[:12], 1.0).sum(1)
    tiny = -np.log(np.finfo(float).tiny)
    copies = np.array([3] + [1] * 11)
    assert score_of("residual", answers, X[:12]).tolist() == [tiny] * 12
    assert score_of("gain", answers, X[:12]).tolist() == [tiny] * 12
    assert score_of("potential", answers, X[:12]).tolist() == [1.0] * 12
    share = w / (copies + 1)
    np.testing.assert_allclose(
        score_of("weight", answers, X[:12]), -np.log(np.abs(share)), rtol=1e-9
    )
    rank = (w[None, :] <= share[:, None]).mean(1)
    np.testing.assert_allclose(score_of("percentile", answers, X[:12]), -rank, rtol=1e-12)


@pytest.mark.parametrize("criterion", ["residual", "weight", "gain", "potential"])
def test_scores_rank_far_queries_where_the_criterion_itself_has_rounded(criterion):
    X = normal(10)
    Z = np.array([[60.0, 0.0, 0.0], [61.0, 0.0, 0.0], [100.0, 0.0, 0.0], [300.0, 0.0, 0.0]])
    found = score_of(criterion, solved(X), Z)
    assert (np.diff(found) < 0).all()
    if criterion != "potential":
        rounded = values(criterion, found)
        assert rounded.tolist() == [1.0] * 4


@pytest.mark.parametrize("t", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_finite_at_every_scale(criterion, t):
    X, Z = normal(12), np.vstack([normal(4, seed=1), normal(12)[:3], np.full((1, 3), 1e200)])
    assert np.isfinite(score_of(criterion, solved(X, t), Z)).all()


def test_gain_is_the_growth_of_the_magnitude():
    X, Z = normal(20), normal(5, seed=1)
    grown = [dense_inverse(np.vstack([X, z]), 1.0).sum() - dense_inverse(X, 1.0).sum() for z in Z]
    np.testing.assert_allclose(values("gain", score_of("gain", solved(X), Z)), grown, rtol=1e-8)


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("t", [0.1, 2.0])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_left_out_scores_equal_fresh_weightings(criterion, t, solver):
    X = normal(18)
    found = left_out_scores(criterion, solved(X, t, solver)).numpy()
    expected = [as_score(criterion, criterion_values(without(X, x), x, t)[criterion]) for x in X]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_left_out_scores_on_the_line(criterion):
    X = normal(18, 1)
    found = left_out_scores(criterion, solved(X)).numpy()
    expected = [as_score(criterion, criterion_values(without(X, x), x, 1.0)[criterion]) for x in X]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nothing_is_further_from_a_class_than_its_only_point_left_out(criterion):
    # What remains of the class represents nothing: like a query infinitely far away.
    answers = solved(normal(1))
    found = left_out_scores(criterion, answers).numpy()
    np.testing.assert_array_equal(found, score_of(criterion, answers, np.full((1, 3), 1e200)))


def settled_winner(score, potential=(0, 0, 0), copies=(0, 0, 0), distance=(0, 0, 0)):
    rows = [np.array([part], dtype=float) for part in (score, potential, copies, distance)]
    out = settle_ties(*rows)
    assert (out == out.max()).sum() == 1
    assert np.abs(out - rows[0]).max() <= np.spacing(np.abs(rows[0]).max())
    return int(out.argmax())


def test_ties_are_settled_in_order():
    tie = (5.0, 5.0, 5.0)
    assert settled_winner(tie) == 0
    assert settled_winner(tie, distance=(3, 1, 2)) == 1
    assert settled_winner(tie, distance=(3, 1, 2), potential=(0, 0.1, 0.2)) == 2
    assert settled_winner(tie, distance=(3, 1, 2), potential=(0, 0.1, 0.2), copies=(1, 0, 0)) == 0
    assert settled_winner(tie, copies=(1, 2, 2), distance=(0, 1, 1)) == 1
    assert settled_winner(tie, distance=(np.inf, np.inf, 1e300)) == 2


def test_what_settles_ties_is_not_asked_otherwise():
    assert settled_winner((1.0, 2.0, 2.0), potential=(9, 0, 0), copies=(9, 0, 0)) == 1
    score = np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 0.0]])
    out = settle_ties(score, score, score, score)
    assert out[0].tolist() == [1.0, 3.0, 2.0]
    assert out[1].tolist() == [2.0, np.nextafter(2.0, 0), 0.0]
    assert score[1, 1] == 2.0


@pytest.mark.parametrize("value", [0.0, -1.0, 708.4, 1.0])
def test_the_difference_of_two_settled_scores_is_not_zero(value):
    out = settle_ties(np.full((1, 2), value), *np.zeros((2, 1, 2)), np.array([[2.0, 1.0]]))
    assert out[0, 1] - out[0, 0] > 0


def test_log_probabilities():
    score = np.array([[0.0, 1.0, 3.0], [5.0, 5.0, 5.0]])
    np.testing.assert_allclose(log_probabilities(score, 0.7), log_softmax(0.7 * score, axis=1))
    far = log_probabilities(np.array([[0.0, 1e6], [-1e300, 1e300]]), 1e6)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(np.exp(far).sum(1), 1)


def test_the_slope_is_the_most_likely_one():
    rng = np.random.default_rng(0)
    score = rng.normal(size=(200, 4))
    probability = np.exp(log_softmax(2.5 * score, axis=1))
    codes = (rng.uniform(size=(200, 1)) > probability.cumsum(1)).sum(1).clip(max=3)

    def loss(a):
        return -log_softmax(a * score, axis=1)[np.arange(200), codes].mean()

    best = minimize_scalar(loss, bounds=(0.01, 20), method="bounded", options={"xatol": 1e-8})
    assert fit_slope(score, codes) == pytest.approx(best.x, rel=1e-3)
    assert 1.5 < best.x < 4


@pytest.mark.parametrize("separable", [True, False])
def test_the_slope_stays_in_bounds(separable):
    score = np.tile([[0.0, 1.0], [1.0, 0.0]], (10, 1))
    codes = np.tile([1, 0] if separable else [0, 1], 10)
    slope = fit_slope(score, codes)
    assert 1e-3 * (1 - 1e-9) <= slope <= 1e6 * (1 + 1e-9)
    assert slope > 10 if separable else slope < 0.1


def test_conformity_counts_left_out_scores_that_are_no_greater():
    left_out = np.array([1.0, 2.0, 2.0, 5.0])
    found = conformity(left_out, np.array([0.0, 1.0, 2.0, 4.9, 5.0, 9.0]))
    assert found.tolist() == [1 / 5, 2 / 5, 4 / 5, 4 / 5, 1.0, 1.0]


def test_conformity_is_valid_on_exchangeable_points():
    # A new point of the same law has p <= alpha with probability alpha at most.
    rng = np.random.default_rng(0)
    p = [conformity(np.sort(rng.normal(size=19)), rng.normal(size=1))[0] for _ in range(2000)]
    for alpha in (0.05, 0.25, 0.5):
        assert np.mean(np.array(p) <= alpha + 1e-12) == pytest.approx(alpha, abs=0.03)
