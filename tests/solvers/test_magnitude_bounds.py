from fractions import Fraction
from itertools import product

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _magnitude_bounds as bounds
from skmag._solvers._bounds import magnitude_upper_bound

L1_METRICS = [
    ("euclidean", {}),
    ("cityblock", {}),
    ("minkowski", {"p": 1.0}),
    ("minkowski", {"p": 1.3}),
    ("minkowski", {"p": 2.0}),
]
PLANE_METRICS = [*L1_METRICS, ("chebyshev", {}), ("minkowski", {"p": 5.0})]
SCALES = st.sampled_from([1e-12, 1e-5, 1e-2, 0.1, 0.3, 1.0, 3.0, 30.0, 1e4])


def upper(X, t=1.0, metric="euclidean", **params):
    data = torch.from_numpy(np.array(X, dtype=float))
    return magnitude_upper_bound(Similarity.of(data, resolve_metric(metric, params), t))


def magnitude_of(X, t, metric="euclidean", **params):
    return np.linalg.solve(dense(X, t, metric, **params), np.ones(len(X))).sum()


@st.composite
def clouds(draw, dimensions):
    """Distinct points, boxes of any proportion, on a lattice and anywhere."""
    d = draw(st.sampled_from(dimensions))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(2, 20)), d)
    steps = rng.integers(-4, 5, size=shape) if draw(st.booleans()) else rng.normal(size=shape)
    sides = 10.0 ** -rng.integers(0, 4, size=d)
    return np.unique(np.vstack([np.zeros(d), sides, steps * sides]), axis=0) + 3.0


def check(X, t, metric, params):
    found = upper(X, t, metric, **params)
    # The reference loses what the condition number takes.
    lost = 1e-15 * np.linalg.cond(dense(X, t, metric, **params))
    assert magnitude_of(X, t, metric, **params) <= found * (1 + 1e-13 + lost) <= len(X) * 2


@pytest.mark.parametrize(("metric", "params"), L1_METRICS)
@settings(deadline=None, max_examples=40)
@given(X=clouds((1, 2, 3, 4, 10, 40)), t=SCALES.filter(lambda t: t > 1e-3))
def test_it_is_above_the_magnitude(metric, params, X, t):
    check(X, t, metric, params)


@pytest.mark.parametrize(("metric", "params"), PLANE_METRICS)
@settings(deadline=None, max_examples=20)
@given(X=clouds((1, 2)), t=SCALES.filter(lambda t: t > 1e-3))
def test_every_norm_of_the_plane_is_one_of_l1(metric, params, X, t):
    check(X, t, metric, params)


@pytest.mark.parametrize(("metric", "params"), L1_METRICS)
@settings(deadline=None, max_examples=15)
@given(X=clouds((1, 2, 5)), t=SCALES.filter(lambda t: t < 1e-2))
def test_at_small_scales_it_leaves_one_with_the_right_order(metric, params, X, t):
    """Magnitude is 1 + O(t diameter), and so is the bound, rounding included."""
    found = upper(X, t, metric, **params)
    with mpmath.workdps(40):
        zeta = mpmath.matrix(len(X), len(X))
        order = {"euclidean": 2, "cityblock": 1}.get(metric) or params["p"]
        for i, j in product(range(len(X)), repeat=2):
            gaps = [abs(mpmath.mpf(a) - mpmath.mpf(b)) for a, b in zip(X[i], X[j], strict=True)]
            total = mpmath.fsum(gap ** mpmath.mpf(order) for gap in gaps)
            zeta[i, j] = mpmath.exp(-t * total ** (1 / mpmath.mpf(order)))
        exact = mpmath.fsum(mpmath.lu_solve(zeta, mpmath.ones(len(X), 1)))
    assert exact <= found <= 1 + t * 20 * np.ptp(X, axis=0).sum() + 1e-14


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 9), m=st.integers(1, 7))
def test_the_lemma_of_cuts(seed, n, m):
    """Zeta is the mean partition of random cuts, and Mag <= 1 / E[1 / parts] <= the rest."""
    rng = np.random.default_rng(seed)
    sides, mass = rng.integers(0, 2, size=(n, m)), rng.exponential(size=m)
    across = sides[:, None] != sides
    zeta = np.exp(-(across @ mass))
    mean, harmonic = np.zeros((n, n)), 0.0
    for active in product([False, True], repeat=m):
        chosen = np.array(active)
        probability = np.prod(np.where(chosen, -np.expm1(-mass), np.exp(-mass)))
        mean += probability * ~across[:, :, chosen].any(-1)
        harmonic += probability / len({tuple(row) for row in sides[:, chosen]})
    np.testing.assert_allclose(mean, zeta, atol=1e-14)
    parts, first = np.unique(sides, axis=0, return_index=True)
    distinct = zeta[np.ix_(first, first)]
    magnitude = np.linalg.solve(distinct, np.ones(len(parts))).sum()
    doubling = np.prod(2 / (1 + np.exp(-mass)))
    assert magnitude <= (1 + 1e-10) / harmonic
    assert 1 / harmonic <= min(len(parts), doubling) * (1 + 1e-12)
    assert doubling <= np.exp(mass.sum() / 2)


@pytest.mark.parametrize("radius", [1e-6, 0.3, 1.0, 7.25, 1e5])
def test_balls_have_their_closed_forms(radius):
    R = Fraction(radius)
    five = R**6 + 18 * R**5 + 135 * R**4 + 525 * R**3 + 1080 * R**2 + 1080 * R + 360
    assert bounds._ball_magnitude(1, radius) == 1 + R
    assert bounds._ball_magnitude(3, radius) == 1 + 2 * R + R**2 + R**3 / 6
    assert bounds._ball_magnitude(5, radius) == five / (120 * (R + 3))


@pytest.mark.parametrize("dimension", range(1, 22, 2))
def test_balls_grow_from_their_mass_of_cuts_to_their_volume(dimension):
    """Mag(B_R) = 1 + R / E|u_1| + ... for small R and R^D / D! + ... for large."""
    small, large = 2.0**-40, 2.0**40
    slope = (bounds._ball_magnitude(dimension, small) - 1) / Fraction(small)
    assert float(slope) == pytest.approx(bounds._half_width(dimension), rel=1e-9)
    assert float(slope) <= bounds._half_width(dimension) * (1 + 1e-9)
    volume = bounds._ball_magnitude(dimension, large) * mpmath.factorial(dimension)
    assert float(volume / Fraction(large) ** dimension) == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("dimension", [1, 2, 3, 6, 21, 22, 300])
def test_the_bound_of_a_ball_grows_with_its_radius(dimension):
    radii = np.geomspace(1e-12, 1e3, 60)
    values = [bounds._ball(dimension, float(radius), 1e9) for radius in radii]
    assert values == sorted(values)
    assert all(value >= 1 + radius for value, radius in zip(values, radii, strict=True))
    wider = [bounds._ball(dimension + 1, float(radius), 1e9) for radius in radii]
    assert np.all(np.array(values) <= np.array(wider) * (1 + 1e-12))


@pytest.mark.parametrize("dimension", [2, 3, 4, 9, 200])
def test_the_mass_of_a_ball_is_one_over_the_mean_projection(dimension):
    directions = np.random.default_rng(0).normal(size=(200_000 // dimension, dimension))
    projection = np.abs(directions[:, 0]) / np.linalg.norm(directions, axis=1)
    error = projection.std() / len(projection) ** 0.5 / projection.mean()
    assert bounds._half_width(dimension) * projection.mean() == pytest.approx(1, abs=5 * error)


def test_cells_are_counted_as_lines_cut_a_rectangle():
    """A plane with Poisson lines: a segment of length L is met by L of them in the mean."""
    rng = np.random.default_rng(0)
    sides = np.array([2.0, 0.7])
    reach, trials, counts = np.linalg.norm(sides) / 2, 3000, []
    for _ in range(trials):
        # Lines that meet the disc around the rectangle; their mass is 2 R / E|u_1| = pi R.
        n = rng.poisson(np.pi * reach)
        angle, offset = rng.uniform(0, np.pi, n), rng.uniform(-reach, reach, n)
        u = np.stack([np.cos(angle), np.sin(angle)], 1)
        meets = np.abs(offset) < (np.abs(u) * sides / 2).sum(1)
        u, offset = u[meets], offset[meets]
        i, j = np.triu_indices(len(u), 1)
        crossing = np.linalg.solve(
            np.stack([u[i], u[j]], 1), np.stack([offset[i], offset[j]], 1)[..., None]
        )[..., 0]
        counts.append(1 + len(u) + (np.abs(crossing) < sides / 2).all(1).sum())
    error = np.std(counts) / trials**0.5
    assert bounds._cells(list(sides / 2), 1e9) == pytest.approx(np.mean(counts), abs=5 * error)
    assert bounds._cells([0.5], 1e9) == pytest.approx(2)


def test_a_segment_and_a_grid_nearly_reach_their_bounds():
    line = np.linspace(0, 5, 400)[:, None]
    assert upper(line) == pytest.approx(1 + 5 / 2)
    assert magnitude_of(line, 1.0) == pytest.approx(upper(line), rel=1e-3)
    grid = np.stack(np.meshgrid(np.linspace(0, 3, 30), np.linspace(0, 1, 30)), -1).reshape(-1, 2)
    assert upper(grid, metric="cityblock") == pytest.approx(2.5 * 1.5)
    assert magnitude_of(grid, 1.0, "cityblock") == pytest.approx(3.75, rel=0.01)
    ball = normal(4000, 3)
    ball /= np.linalg.norm(ball, axis=1).max()
    # The ball of three dimensions, not a box, decides.
    assert upper(ball) == pytest.approx(1 + 2 + 1 + 1 / 6, rel=0.05)


def test_it_follows_the_points_and_their_flats():
    X = normal(50, 4)
    assert upper(X, 1e9) == 50
    assert upper(np.vstack([X, X]), 1e9) == 50
    assert upper(X, 0.1) <= upper(X, 0.2)
    # Two points far out on a line are bounded by a segment, whatever the number of features.
    pair = np.zeros((2, 1000))
    pair[1, :100] = 0.01
    assert upper(pair, 1.0) == pytest.approx(1.05)
    # A feature that does not vary is none.
    flat = np.column_stack([X[:, :2], np.full((50, 30), 7.0)])
    assert upper(flat, 0.3) == pytest.approx(upper(X[:, :2], 0.3), rel=1e-12)


@pytest.mark.parametrize(("metric", "params"), PLANE_METRICS)
def test_two_points_on_an_axis_lie_below_with_no_tolerance(metric, params):
    """Their magnitude is 2 / (1 + exp(-t d)); the bound's first order is exact."""
    for gap in (5e-324, 1e-300, 1e-16, 1e-5, 0.1, 1.0, 20.0):
        found = upper([[0.0, 0.0], [gap, 0.0]], 1.0, metric, **params)
        with mpmath.workdps(400):
            exact = 2 / (1 + mpmath.exp(-mpmath.mpf(gap)))
            assert exact <= found <= min(2, 1 + mpmath.mpf(gap) / 2 * (1 + gap)) * (1 + 1e-14)


@pytest.mark.parametrize(("metric", "params"), PLANE_METRICS)
@pytest.mark.parametrize("features", [1, 2])
def test_extreme_inputs_stay_between_one_and_the_number_of_points(metric, params, features):
    X = np.clip(normal(20, features), -1.5, 1.5)
    for unit in (1e-300, 1e-5, 1.0, 1e200, 1e300, 1e308):
        for t in (1e-300, 1.0, 1e300):
            found = upper(X * unit, t, metric, **params)
            assert 1 < found <= 20
            size = np.log10(t) + np.log10(unit)
            assert size > -10 or found < 1 + 1e-9
            assert size < 10 or found == 20


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
@pytest.mark.parametrize("features", [22, 1000])
def test_many_features_are_no_trouble(metric, features):
    X = normal(100, features)
    found = [upper(X, t, metric) for t in (1e-6, 1e-4, 1e-2, 1.0)]
    assert np.all(np.diff(found) >= 0)
    assert found[0] < 1.01
    assert found[-1] == 100
    assert magnitude_of(X, 1e-4, metric) < found[1] < 100


def test_a_ball_beats_a_box_for_round_data_and_loses_for_long():
    half = [0.5] * 10
    assert bounds._ball(10, 0.5, 1e9) < bounds._half_exponential(sum(half))
    X = np.column_stack([np.linspace(0, 10, 50), np.tile([0.0, 1e-3], 25)])
    assert upper(X) < bounds._ball(2, 5.0, 1e9)
    assert magnitude_of(X, 1.0) <= upper(X)


def test_nothing_is_claimed_for_metrics_that_are_not_known_to_be_of_l1():
    X = np.abs(normal(6, 3))
    for metric in ("chebyshev", "cosine", "canberra", lambda a, b: np.abs(a - b).max()):
        assert upper(X, 1.0, metric) == np.inf
        assert upper(X[:1], 1.0, metric) == 1
    assert upper(X, 1.0, "minkowski", p=2.5) == np.inf
    assert upper(X, 1.0, "minkowski", p=2, w=np.ones(3)) == np.inf
    assert upper(cdist(X, X), 1.0, "precomputed") == np.inf
    assert upper([[0.0]], 1.0, "precomputed") == 1
