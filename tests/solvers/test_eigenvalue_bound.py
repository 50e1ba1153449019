import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import iv
from reference import dense, normal
from scipy.spatial.distance import cdist, pdist

from skmag._metrics import resolve_metric
from skmag._solvers._bounds import smallest_eigenvalue_bound
from skmag._solvers._eigenvalue_bound import _bessel_peak, _kappa

NORMS = [
    ("euclidean", {}),
    ("cityblock", {}),
    ("chebyshev", {}),
    ("minkowski", {"p": 1.0}),
    ("minkowski", {"p": 1.5}),
    ("minkowski", {"p": 2.0}),
    ("minkowski", {"p": 4.0}),
]


def bound(X, t, metric="euclidean", **params):
    separation = pdist(X, metric, **params).min()
    return smallest_eigenvalue_bound(resolve_metric(metric, params), X.shape[1], t, separation)


def least_eigenvalue(X, t, metric="euclidean", **params):
    return np.linalg.eigvalsh(dense(X, t, metric, **params))[0]


def lattice(side, dimension):
    return np.stack(np.meshgrid(*[np.arange(side)] * dimension), -1).reshape(-1, dimension) * 1.0


@st.composite
def clouds(draw):
    """Distinct points, some of them much closer to each other than the rest."""
    d = draw(st.sampled_from([1, 2, 3, 6, 30]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(2, 30)), d)
    steps = rng.integers(-3, 4, size=shape) * draw(st.sampled_from([1.0, 0.01]))
    return np.unique(np.vstack([np.zeros(d), np.ones(d), steps]), axis=0)


@pytest.mark.parametrize(("metric", "params"), NORMS)
@settings(deadline=None, max_examples=30)
@given(X=clouds(), t=st.sampled_from([1e-4, 0.1, 1.0, 3.0, 10.0, 40.0, 1e3]))
def test_it_is_below_the_smallest_eigenvalue(metric, params, X, t):
    found = bound(X, t, metric, **params)
    # Zero claims nothing: zeta need not be positive definite.
    assert found == 0 or found <= least_eigenvalue(X, t, metric, **params) + 1e-14 * len(X)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 10, 30, 100])
@pytest.mark.parametrize("t", [1e-9, 1e-2, 1.0, 10.0])
def test_under_small_scales_it_is_no_eigenvalue_of_rounding(dimension, t):
    X = normal(8, dimension, seed=dimension)
    with mpmath.workdps(40):
        zeta = mpmath.matrix(8, 8)
        for i in range(8):
            for j in range(8):
                gaps = [mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(X[i], X[j], strict=True)]
                zeta[i, j] = mpmath.exp(-t * mpmath.norm(gaps))
        exact = mpmath.eigsy(zeta, eigvals_only=True)[0]
    # Eight points span seven dimensions.
    euclidean = resolve_metric("euclidean", {})
    found = smallest_eigenvalue_bound(euclidean, min(dimension, 7), t, pdist(X).min())
    assert found <= exact <= 6 * found


@pytest.mark.parametrize("dimension", [2, 3, 5, 12, 40])
def test_the_distance_matrix_is_bounded_on_contrasts(dimension):
    """-x' d x >= kappa q / 2 |x|^2 for 1'x = 0, to which Schoenberg's theorem is applied."""
    for X in (normal(60, dimension), lattice(7, 2) if dimension == 2 else lattice(3, 3)):
        d = cdist(X, X)
        contrasts = np.linalg.svd(np.ones((1, len(X))))[2][1:]
        least = np.linalg.eigvalsh(-contrasts @ d @ contrasts.T)[0]
        assert _kappa(dimension) * pdist(X).min() / 2 <= least


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 5.0])
@pytest.mark.parametrize(
    ("dimension", "side", "within"), [(1, 300, 1.01), (2, 20, 1.4), (3, 7, 1.7)]
)
def test_lattices_are_nearly_the_worst_case(t, dimension, side, within):
    X = lattice(side, dimension)
    found = bound(X, t)
    assert found <= least_eigenvalue(X, t) <= within * found


def test_the_line_has_its_exact_constant():
    """The infinite lattice of step q has sum_k (-1)^k exp(-t q |k|) = tanh(t q / 2)."""
    for metric, params in NORMS:
        resolved = resolve_metric(metric, params)
        assert smallest_eigenvalue_bound(resolved, 1, 3.0, 0.5) == pytest.approx(np.tanh(0.75))


def test_cityblock_is_sharp_up_to_the_separation_in_one_coordinate():
    """Products of lattices of step s have the product of their eigenvalues."""
    X = lattice(20, 2)
    # Points of this lattice are 1 apart; the bound has to reckon with 1/2 in each coordinate.
    assert bound(X, 1.0, "cityblock") == pytest.approx(np.tanh(0.25) ** 2)
    assert least_eigenvalue(X, 1.0, "cityblock") == pytest.approx(np.tanh(0.5) ** 2, rel=0.02)


@pytest.mark.parametrize(("metric", "params"), NORMS)
@pytest.mark.parametrize("features", [1, 2, 7, 50])
def test_it_grows_with_scale_and_separation_towards_one(metric, params, features):
    resolved = resolve_metric(metric, params)
    values = [
        smallest_eigenvalue_bound(resolved, features, 2.0, y / 2)
        for y in np.geomspace(1e-8, 1e4, 99)
    ]
    assert np.all(np.diff(values) >= -1e-15)
    assert 1 - 1e-12 < values[-1] <= 1


def test_nothing_is_claimed_where_nothing_is_proven():
    table = resolve_metric("precomputed", {})
    assert smallest_eigenvalue_bound(table, 0, 1.0, 1.0) == 0
    for metric in ("cosine", "canberra", lambda a, b: abs(a - b).sum()):
        assert smallest_eigenvalue_bound(resolve_metric(metric, {}), 3, 1.0, 1e3) == 0
    weighted = resolve_metric("minkowski", {"p": 2, "w": [1.0, 2.0]})
    assert smallest_eigenvalue_bound(weighted, 2, 1.0, 1e3) == 0
    assert smallest_eigenvalue_bound(resolve_metric("chebyshev", {}), 3, 1.0, 1.0) == 0
    assert smallest_eigenvalue_bound(resolve_metric("euclidean", {}), 0, 1.0, np.inf) == 1


@pytest.mark.parametrize(("metric", "params"), NORMS)
@pytest.mark.parametrize("features", [1, 3, 1000, 10**5])
def test_extreme_inputs_give_a_number_between_zero_and_one(metric, params, features):
    resolved = resolve_metric(metric, params)
    for t in (1e-300, 1.0, 1e300):
        for separation in (0.0, 1e-300, 1.0, 1e300, np.inf, np.nan):
            found = smallest_eigenvalue_bound(resolved, features, t, separation)
            assert 0 <= found <= 1
            assert not found or separation > 0


def test_thousands_of_features_still_give_a_bound():
    euclidean = resolve_metric("euclidean", {})
    features = (100, 1000, 10_000)
    values = np.array([smallest_eigenvalue_bound(euclidean, D, 1.0, 1.0) for D in features])
    # kappa falls as D^(-5/6).
    np.testing.assert_allclose(np.log10(values[0] / values[1:]) * 6 / 5, [1, 2], atol=0.1)


def bessel_series(x, D):
    """f and g with J = P f and J + 2 z J' = P g, P = (z/2)^nu / Gamma(nu + 1), x = z^2 / 4.

    The terms alternate; once they decrease, a sum is off by less than its first missing term.
    """
    nu = iv.mpf(D) / 2
    f, g, term = iv.mpf(0), iv.mpf(0), iv.mpf(1)
    k = 0
    while True:
        f, g = f + term, g + (1 + 2 * nu + 4 * k) * term
        k += 1
        term = -term * x / (k * (nu + k))
        rest = (1 + 2 * nu + 4 * k) * max(abs(term.a), abs(term.b))
        if 2 * x.b < k * (nu.a + k) and rest.b < mpmath.mpf(2) ** (-iv.prec // 2):
            return f + iv.mpf([-1, 1]) * rest, g + iv.mpf([-1, 1]) * rest


def prefactor_squared(z, D):
    """(z/2)^D / Gamma(D/2 + 1)^2."""
    gamma = iv.mpf(1) if D % 2 == 0 else iv.sqrt(iv.pi)
    for k in range(D, 0, -2):
        gamma = gamma * k / 2
    return (z / 2) ** D / gamma**2


def is_positive(a, b, D):
    """Whether J is proven to be positive from a to b."""
    pending = [(a, b)]
    while pending:
        a, b = pending.pop()
        if bessel_series(iv.mpf([a, b]) ** 2 / 4, D)[0].a > 0:
            continue
        if b - a < 1e-7:
            return False
        pending += [(a, (a + b) / 2), ((a + b) / 2, b)]
    return True


@pytest.mark.parametrize("D", [*range(1, 31), 50, 100, 1000])
def test_the_constants_hold_in_interval_arithmetic(D):
    """B = sup z J(z)^2 for nu = D / 2, and kappa.

    With phi = 1 - (nu^2 - 1/4) / z^2 the energy u^2 + u'^2 / phi falls beyond the turning point, so
    its value at z bounds u^2 from there on. Before z, u increases: it does at z, and is convex up
    to the turning point and concave from there on, as long as it is positive. That is shown by
    intervals or, in many dimensions, known up to nu + 1.8557 nu^(1/3) (Qu and Wong, 1999).
    """
    nu, precision = mpmath.mpf(D) / 2, iv.prec
    peak = mpmath.findroot(
        lambda z: mpmath.besselj(nu, z) + 2 * z * mpmath.besselj(nu, z, derivative=1),
        float(nu) + 0.81 * float(nu) ** (1 / 3) + (0.4 if D < 30 else 0.0),
    )
    turning = float(mpmath.sqrt(nu**2 - 0.25))
    before = float(peak) - 1e-4
    try:
        iv.prec = 120 if D <= 12 else 200 + 2 * D
        z = iv.mpf(before)
        f, g = bessel_series(z**2 / 4, D)
        if D <= 12:
            assert is_positive(turning, before, D)
        else:
            assert before < float(nu) + 1.8557 * float(nu) ** (1 / 3)
        assert g.a > 0
        phi = 1 - (iv.mpf(D) ** 2 - 1) / (4 * z**2)
        assert phi.a > 0
        energy = prefactor_squared(z, D) * (z * f**2 + g**2 / (4 * z * phi))
        # Gamma((D + 1) / 2) / Gamma(D / 2 + 1), by its recursion from D = 1 or 2.
        ratio = 2 / iv.sqrt(iv.pi) if D % 2 else iv.sqrt(iv.pi) / 2
        for k in range(4 - D % 2, D + 1, 2):
            ratio = ratio * (k - 1) / k
        kappa = ratio / (iv.sqrt(iv.pi) * energy)
        assert energy.b <= _bessel_peak(D) <= energy.a * (1 + 3e-6)
        assert kappa.b * (1 - 5e-6) <= _kappa(D) <= kappa.a
    finally:
        iv.prec = precision
