"""Statements about magnitude and weights that the papers make, each by its place.

BDKF is Bunch, Dickinson, Kline, Fung, "Practical applications of metric space magnitude and
weighting vectors"; AWSGS is Andreeva, Ward, Skraba, Gao, Sarkar, "Approximating metric magnitude
of point sets"; TGS is Torkamani, Gouk, Sarkar, "Magnitude distance".
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import dense, dense_inverse, normal
from scipy.optimize import brentq
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist, pdist

from skmag import magnitude, magnitude_function, magnitude_weights, weighting

quickly = settings(deadline=None, max_examples=30)
scales = st.sampled_from([1e-3, 0.1, 1.0, 10.0])
seeds = st.integers(0, 10**6)


@st.composite
def clouds(draw, least=2, most=10, dimensions=(1, 2, 3, 8)):
    """Distinct points on a lattice, so that none are nearly equal."""
    d = draw(st.sampled_from(dimensions))
    row = st.tuples(*[st.integers(-40, 40)] * d)
    rows = draw(st.lists(row, min_size=least, max_size=most, unique=True))
    return np.array(rows) / 8


def grid(side, step, d):
    axis = np.arange(0, side + step / 2, step)
    return np.stack(np.meshgrid(*[axis] * d), -1).reshape(-1, d)


def cross_polytope(dimension):
    return np.vstack([np.eye(dimension), -np.eye(dimension)])


def cross_polytope_magnitudes(t, dimension):
    """Without and with the origin, by symmetry: AWSGS, proof of Theorem 2."""
    vertices = 2 * dimension
    alone = vertices / (1 + np.exp(-2 * t) + (vertices - 2) * np.exp(-t * np.sqrt(2)))
    joined = ((1 - 2 * np.exp(-t)) * alone + 1) / (1 - np.exp(-2 * t) * alone)
    return alone, joined


def rho(zeta, inside):
    """BDKF, Definition 6, as a matrix over all points in their own order."""
    out = np.linalg.inv(zeta)
    out[np.ix_(inside, inside)] -= np.linalg.inv(zeta[np.ix_(inside, inside)])
    return out


def padded(values, rows, n):
    out = np.zeros(n)
    out[rows] = values
    return out


@pytest.mark.parametrize("distance", [1e-9, 0.1, 1.0, 7.0, 1e3])
def test_two_points(distance):  # AWSGS, Example 1
    points = [[1.0, 0.0], [1.0, distance]]
    assert magnitude(points) == pytest.approx(2 / (1 + np.exp(-distance)), rel=1e-14)


@pytest.mark.parametrize(("b", "a"), [(0.01, 3.0), (0.5, 0.5), (1.0, 2.0)])
def test_isosceles_triangle(a, b):  # AWSGS, proof of Theorem 5
    A, B = np.exp(a), np.exp(b)
    expected = ((3 * A**2 - 4 * A) * B + A**2) / ((A**2 - 2) * B + A**2)
    table = [[0, b, a], [b, 0, a], [a, a, 0]]
    assert magnitude(table, metric="precomputed") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("t", [1e-6, 0.3, 5.0, 50.0])
@pytest.mark.parametrize("n", [2, 7, 60])
def test_regular_simplex(n, t):
    found = magnitude(np.eye(n) / np.sqrt(2), t=t)
    assert found == pytest.approx(n / (1 + (n - 1) * np.exp(-t)), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_points_on_a_circle_by_a_discrete_fourier_transform(n):
    angle = 2 * np.pi * np.arange(n) / n
    circle = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    row = np.exp(-6 * np.sin(np.pi * np.arange(n) / n))
    # zeta is circulant: its inverse is, and their eigenvalues are Fourier coefficients.
    inverse = np.fft.ifft(1 / np.fft.fft(row)).real
    assert magnitude(circle) == pytest.approx(n * inverse.sum(), rel=1e-12)
    assert_allclose(weighting(circle).loss(), inverse.sum() ** 2 / inverse[0], rtol=1e-9)


def test_vertices_of_a_regular_polytope_weigh_the_same():  # BDKF, section 1.2
    cube, golden = grid(1, 1, 3), (1 + np.sqrt(5)) / 2
    half = np.array([[0, i, j * golden] for i in (-1, 1) for j in (-1, 1)])
    icosahedron = np.vstack([np.roll(half, k, axis=1) for k in range(3)])
    for polytope in (cube, icosahedron, cross_polytope(4)):
        assert_allclose(magnitude_weights(polytope), 1 / dense(polytope, 1).sum(1), rtol=1e-12)


@pytest.mark.parametrize(("t", "dimension"), [(5.0, 500), (5.0, 60), (0.5, 30), (2.0, 3)])
def test_cross_polytope_and_its_centre(t, dimension):  # AWSGS, Theorem 2 and its proof
    X = cross_polytope(dimension)
    joined = np.vstack([X, np.zeros(dimension)])
    expected = cross_polytope_magnitudes(t, dimension)
    assert_allclose([magnitude(X, t=t), magnitude(joined, t=t)], expected, rtol=1e-12)
    assert weighting(X, t=t).gain(joined[-1:])[0] == pytest.approx(np.diff(expected)[0], rel=1e-9)


def test_one_point_may_add_much_more_than_one():  # AWSGS, section 3.3; TGS, Lemma B.6
    X = cross_polytope(500)
    growth = magnitude(np.vstack([X, np.zeros(500)]), t=5.0) - magnitude(X, t=5.0)
    assert growth == pytest.approx(7.18, abs=5e-3)
    # Weights may be negative (BDKF, section 1.2).
    assert magnitude_weights(np.vstack([X, np.zeros(500)]), t=5.0)[-1] < -2


@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_limit_over_dimensions_of_the_centre_of_a_cross_polytope(t):  # AWSGS, Theorem 2
    a, b = np.exp(t), np.exp(t * np.sqrt(2))
    limit = (a - b) ** 2 / (a**2 - b)
    gaps = [
        abs(weighting(cross_polytope(d), t=t).gain(np.zeros((1, d)))[0] - limit)
        for d in (20, 100, 500)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert np.diff(cross_polytope_magnitudes(t, 1e9))[0] == pytest.approx(limit, rel=1e-4)


@quickly
@given(clouds(dimensions=[1]), scales)
def test_line_is_a_sum_over_gaps(X, t):  # AWSGS, proof of Theorem 3
    expected = 1 + np.tanh(t * np.diff(np.sort(X[:, 0])) / 2).sum()
    for solver in ("line", "cholesky"):
        assert magnitude(X, t=t, solver=solver) == pytest.approx(expected, rel=1e-12)
    assert magnitude(X @ [[0.6, 0.8]], t=t) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("t", [0.1, 1.0, 30.0])
def test_interval(t):  # BDKF, Definition 2 and the example after it
    samples = [np.linspace(0, 1, 2**k + 1)[:, None] for k in (2, 5, 10, 14)]
    values = [magnitude(sample, t=t) for sample in samples]
    assert all(a < b < 1 + t / 2 for a, b in pairwise(values))
    assert values[-1] == pytest.approx(1 + t / 2, rel=1e-6)


def test_growth_measures_length_and_area():  # BDKF, Theorem 4; AWSGS, Theorem 7
    line = np.linspace(0, 1, 10**6)[:, None]
    assert magnitude(line, t=1e3) / 1e3 == pytest.approx(1 / (1 * 2), rel=3e-3)
    # Terms of lower order, a constant 1 and the perimeter's, leave by a second difference.
    side = 8
    small, large = (magnitude(grid(a, 0.5, 2)) for a in (side, 2 * side))
    area = side**2 / (2 * np.pi)
    assert (large - 2 * small + 1) / 2 == pytest.approx(area, rel=0.02)


def test_product_of_spaces_under_cityblock():  # Leinster 2013, Proposition 2.3.6
    A, B = normal(5, 2), normal(6, 1, seed=1)
    product = np.array([np.concatenate([a, b]) for a in A for b in B])
    factors = [magnitude(part, metric="cityblock") for part in (A, B)]
    assert magnitude(product, metric="cityblock") == pytest.approx(np.prod(factors), rel=1e-12)


@quickly
@given(clouds())
def test_limits_in_t(X):  # BDKF, Theorems 3 and 4 and section 1.2; TGS, Appendix C
    shortest, longest = pdist(X).min(), pdist(X).max()
    for eps in (1e-3, 1e-9):
        assert abs(magnitude(X, t=eps / longest) - 1) <= 10 * eps
    assert magnitude_weights(X, t=1e-9 / longest).sum() == pytest.approx(1, rel=1e-6)
    assert magnitude(X, t=50 / shortest) == pytest.approx(len(X), rel=1e-12)
    assert_allclose(magnitude_weights(X, t=50 / shortest), 1, rtol=1e-12)


@quickly
@given(clouds(dimensions=(2, 3, 8)))
def test_scattered_points_have_positive_weights_and_growing_magnitude(X):  # TGS, Appendix C
    t = 2 * np.log(len(X)) / pdist(X).min()
    assert magnitude_weights(X, t=t).min() > 0
    values = magnitude_function(X, t * np.array([1, 1.2, 1.5, 2]))
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize("t", [4.0, 6.0, 9.0])
def test_neumann_series(t):  # TGS, Appendix C, proof of Theorem 5.3
    X = grid(3, 1, 2)
    n, table = len(X), cdist(X, X)
    off = np.exp(-t * table) - np.eye(n)
    assert np.linalg.norm(off, 2) < 1
    terms = [(-1) ** k * np.linalg.matrix_power(off, k).sum() for k in range(40)]
    found = magnitude(X, t=t)
    assert found == pytest.approx(sum(terms), rel=1e-12)
    first_order = n - off.sum()
    assert abs(found - first_order) < 200 * np.exp(-2 * t)
    slope = (magnitude(X, t=t + 1e-4) - magnitude(X, t=t - 1e-4)) / 2e-4
    assert abs(slope - (table * off).sum()) < 600 * np.exp(-2 * t)


@quickly
@given(clouds(), scales, st.floats(1, 50))
def test_rescaling_bounds(X, base, t):  # AWSGS, Theorem 6
    before, after = magnitude(X, t=base), magnitude(X, t=base * t)
    assert before / t <= after * (1 + 1e-12)
    assert after <= t ** X.shape[1] * before * (1 + 1e-12)


@quickly
@given(clouds(), scales)
def test_bounds(X, t):  # TGS, proof of Theorem 5.5 (at most n where no weight is negative)
    w, value = magnitude_weights(X, t=t), magnitude(X, t=t)
    assert value > 1
    if X.shape[1] == 1:
        assert w.min() > 0
    if w.min() >= 0:
        assert value <= len(X)


@quickly
@given(clouds(least=3), scales, st.data())
def test_magnitude_grows_under_inclusion(X, t, data):  # AWSGS, 3.3; TGS, Lemma B.1
    size = data.draw(st.integers(1, len(X) - 1))
    assert magnitude(X[:size], t=t) <= magnitude(X, t=t) * (1 + 1e-12)


def test_magnitude_stays_if_only_weightless_points_join():  # TGS, Lemma B.4
    # Where the centre has potential 1 under the vertices, it has nothing to add.
    X, d = cross_polytope(30), 30
    t = brentq(lambda t: cross_polytope_magnitudes(t, d)[0] * np.exp(-t) - 1, 0.1, 5, xtol=1e-14)
    joined = np.vstack([X, np.zeros(d)])
    assert magnitude(joined, t=t) == pytest.approx(magnitude(X, t=t), rel=1e-12)
    assert_allclose(magnitude_weights(joined, t=t)[:-1], magnitude_weights(X, t=t), rtol=1e-9)
    assert abs(magnitude_weights(joined, t=t)[-1]) < 1e-9
    assert magnitude(joined, t=2 * t) > magnitude(X, t=2 * t) * (1 + 1e-3)


@quickly
@given(clouds(), scales, seeds)
def test_magnitude_is_a_supremum(X, t, seed):  # TGS, Appendix A, equation (6)
    zeta, w, value = dense(X, t), magnitude_weights(X, t=t), magnitude(X, t=t)
    rng = np.random.default_rng(seed)
    for v in (rng.normal(size=len(X)), w + 0.01 * rng.normal(size=len(X)), rng.random(len(X))):
        assert v.sum() ** 2 / (v @ zeta @ v) <= value * (1 + 1e-9)
    multiple = -3 * w
    assert multiple.sum() ** 2 / (multiple @ zeta @ multiple) == pytest.approx(value, rel=1e-9)


@quickly
@given(clouds(dimensions=(2, 3)), scales, seeds)
def test_isometries_change_nothing(X, t, seed):  # BDKF, section 1.2
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(6, X.shape[1])))[0]
    image = X @ Q.T + rng.normal(size=6)
    assert magnitude(image, t=t) == pytest.approx(magnitude(X, t=t), rel=1e-11)
    assert_allclose(magnitude_weights(image, t=t), magnitude_weights(X, t=t), rtol=1e-7, atol=1e-8)


def test_weights_are_continuous_in_the_points():  # BDKF, section 1.2
    X, eta = normal(30), normal(30, seed=1)
    eta /= np.linalg.norm(eta, axis=1, keepdims=True)
    w = magnitude_weights(X)
    change = [np.abs(magnitude_weights(X + eps * eta) - w).max() for eps in (1e-2, 1e-4, 1e-6)]
    assert change[0] > change[1] > change[2]
    assert change[2] < 1e-4


def test_extreme_points_weigh_more():  # BDKF, section 1.2
    X = np.random.default_rng(0).uniform(size=(400, 2))
    hull = ConvexHull(X).vertices
    w = magnitude_weights(X, t=1e-3)
    assert w[hull].mean() > 5 * np.delete(w, hull).mean()


@quickly
@given(clouds(most=6), scales, st.data())
def test_copies_share_the_weight_of_a_point(X, t, data):  # TGS, Theorem 4.1, Corollary A.1
    n = len(X)
    copies = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=6))
    rows = np.array(data.draw(st.permutations([*range(n), *copies])))
    many = X[rows]
    assert magnitude(many, t=t) == pytest.approx(magnitude(X, t=t), rel=1e-12)
    w, single = magnitude_weights(many, t=t), magnitude_weights(X, t=t)
    assert_allclose(w, single[rows] / np.bincount(rows)[rows], rtol=1e-8, atol=1e-9)
    assert_allclose(dense(many, t) @ w, 1, rtol=1e-9)


@quickly
@given(clouds(least=4, dimensions=[1]), scales, st.data())
def test_magnitude_is_submodular_on_the_line(line, t, data):  # AWSGS, Theorem 3
    S, T = (data.draw(st.sets(st.integers(0, len(line) - 1))) | {0} for _ in range(2))
    S_, T_, union, common = (line[sorted(part)] for part in (S, T, S | T, S & T))
    lower = magnitude(union, t=t) + magnitude(common, t=t)
    assert magnitude(S_, t=t) + magnitude(T_, t=t) >= lower - 1e-12


@quickly
@given(st.floats(0.01, 30), st.floats(0.01, 30), st.floats(0, 1))
def test_magnitude_is_submodular_on_three_points(a, b, share):  # AWSGS, Theorem 5
    least = max(0.005, abs(a - b))
    c = least + share * (a + b - least)
    sides = a, b, c
    table = np.array([[0, a, b], [a, 0, c], [b, c, 0]])
    whole = magnitude(table, metric="precomputed")
    pairs = [2 / (1 + np.exp(-side)) for side in sides]
    for i in range(3):
        assert sum(pairs) - pairs[i] >= whole + 1 - 1e-9
        assert pairs[i] + 1 >= whole - 1e-9


@quickly
@given(clouds(least=3), scales, st.data())
def test_weights_from_schur_complements(X, t, data):  # BDKF, (2), (3), Lemma 8
    n, size = len(X), data.draw(st.integers(1, len(X) - 1))
    Y, rest = np.arange(size), np.arange(size, n)
    zeta, w = dense(X, t), magnitude_weights(X, t=t)
    cross = zeta[np.ix_(Y, rest)]
    for own, other, block in ((Y, rest, cross), (rest, Y, cross.T)):
        inverse = dense_inverse(X[other], t)
        schur = zeta[np.ix_(own, own)] - block @ inverse @ block.T
        right = 1 - block @ magnitude_weights(X[other], t=t)
        assert_allclose(np.linalg.solve(schur, right), w[own], rtol=1e-6, atol=1e-7)
    correction = rho(zeta, Y)
    glued = padded(magnitude_weights(X[Y], t=t), Y, n) + correction.sum(1)
    assert_allclose(glued, w, rtol=1e-6, atol=1e-7)
    total = magnitude(X[Y], t=t) + correction.sum()
    assert total == pytest.approx(magnitude(X, t=t), rel=1e-6)


@quickly
@given(clouds(), scales)
def test_one_point_more_adds_its_gain(X, t):  # BDKF, section 2.2
    Y, last = X[:-1], X[-1:]
    growth = magnitude(X, t=t) - magnitude(Y, t=t)
    assert weighting(Y, t=t).gain(last)[0] == pytest.approx(growth, rel=1e-9, abs=1e-12)
    k = np.exp(-t * cdist(last, Y))[0]
    schur = 1 - k @ dense_inverse(Y, t) @ k
    assert growth == pytest.approx(schur * magnitude_weights(X, t=t)[-1] ** 2, rel=1e-6, abs=1e-9)


@quickly
@given(clouds(least=4), scales, st.data())
def test_inclusion_and_exclusion(Z, t, data):  # BDKF, Theorem 9, with the sign of (weights) mended
    n = len(Z)
    first, last = data.draw(st.integers(1, n - 2)), data.draw(st.integers(0, n - 3))
    X, Y = np.arange(0, max(first, last) + 1), np.arange(min(first, last), n)
    both = np.intersect1d(X, Y)
    assert len(both) > 0
    zeta, w, total = dense(Z, t), np.zeros(n), 0.0
    for sign, part in ((1, X), (1, Y), (-1, both)):
        correction = rho(zeta, part)
        w += sign * (padded(magnitude_weights(Z[part], t=t), part, n) + correction.sum(1))
        total += sign * (magnitude(Z[part], t=t) + correction.sum())
    assert_allclose(w, magnitude_weights(Z, t=t), rtol=1e-6, atol=1e-7)
    assert total == pytest.approx(magnitude(Z, t=t), rel=1e-6)


def test_a_graph_need_not_have_a_weighting():  # BDKF, section 1.1
    # The complete bipartite graph of 3 and 2 vertices, exp(-t) = 1 / sqrt(2).
    side = np.array([0, 0, 0, 1, 1])
    table = np.where(side[:, None] == side, 2.0, 1.0)
    np.fill_diagonal(table, 0)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        magnitude(table, t=np.log(2) / 2, metric="precomputed")
