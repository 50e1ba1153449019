import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import normal
from scipy.linalg import expm
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.neighbors import KNeighborsTransformer

from skmag._heat_trace import (
    PROBES,
    VARIANCE_REDUCTIONS,
    control_coefficients,
    graph_from,
    heat_traces,
    neighbour_graph,
    normalized_adjacency,
    null_trace,
    power_traces,
    quadrature,
    random_probes,
)

TS = np.logspace(-1, 1, 9)
CONTROLS = pytest.mark.parametrize("control", VARIANCE_REDUCTIONS)


def graph_of(X, k=5, neighbors=None):
    return graph_from(X, k, neighbors, "euclidean", {}, None)


def checked_graph(A):
    return graph_of(A, 5, "precomputed")


def laplacian(A):
    """Textbook: I - D^-1/2 A D^-1/2, for a dense graph in which no node is alone."""
    degree = A.sum(1)
    return np.eye(len(A)) - A / np.sqrt(np.outer(degree, degree))


def exact_trace(A, ts=TS):
    return np.exp(-np.outer(ts, np.linalg.eigvalsh(laplacian(A)))).sum(1)


def axes(n):
    """Probes over which Hutchinson's estimator has no error: all axes, of length sqrt(n)."""
    return iter(np.sqrt(n) * np.eye(n))


def path(n):
    return sp.diags_array([np.ones(n - 1)] * 2, offsets=[-1, 1]).tocsr()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), n=st.integers(7, 40), d=st.integers(1, 6), k=st.integers(1, 6))
def test_an_edge_joins_points_of_which_one_names_the_other(seed, n, d, k):
    X = normal(n, d, seed)
    distance = cdist(X, X) + np.diag(np.full(n, np.inf))
    named = np.zeros((n, n))
    for i in range(n):
        named[i, np.argsort(distance[i])[:k]] = 1
    assert_array_equal(graph_of(X, k).toarray(), np.maximum(named, named.T))


def test_copies_are_points_of_their_own():
    X = np.repeat(normal(6, 2), 4, axis=0)
    A = graph_of(X, 3).toarray()
    # Three neighbours at distance zero, and never the point itself.
    assert_array_equal(A, np.kron(np.eye(6), np.ones((4, 4)) - np.eye(4)))
    alike = graph_of(np.ones((10, 3)), 2).toarray()
    assert (np.diag(alike) == 0).all()
    assert (alike.sum(1) >= 2).all()


def test_stored_distances_keep_their_zeros_and_need_not_be_sorted():
    stored = sp.csr_array(
        (
            [3.0, 0.0, 0.0, 1.0, 0.0, 2.0, 9.0, 1.0],
            [2, 1, 0, 2, 0, 2, 0, 1],
            [0, 3, 6, 8],
        ),
        shape=(3, 3),
    )
    assert_array_equal(neighbour_graph(stored, 1, "X").toarray(), [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"X gives row 0 only 2 neighbours .* n_neighbors=3"):
        neighbour_graph(stored, 3, "X")


def test_a_row_that_names_nobody_is_refused():
    stored = sp.csr_array(([1.0], ([0], [1])), shape=(3, 3))
    with pytest.raises(ValueError, match="row 1 only 0 neighbours"):
        neighbour_graph(stored, 1, "X")


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_distances_of_a_library_that_are_none(bad):
    with pytest.raises(ValueError, match=f"neighbors gives a distance of {bad:g}"):
        neighbour_graph(sp.csr_array([[0, 1, bad], [1, 0, 1], [1, 1, 0]]), 1, "neighbors")


def test_a_callers_graph_counts_edges_in_either_direction_and_no_loops():
    A = np.array([[5.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    graph = checked_graph(A)
    assert_array_equal(graph.toarray(), [[5, 2, 0], [2, 0, 3], [0, 3, 0]])
    expected = np.eye(3) - laplacian(np.array([[0, 2, 0], [2, 0, 3], [0, 3, 0.0]]))
    assert_allclose(normalized_adjacency(graph).toarray(), expected, atol=1e-15)
    assert_array_equal(checked_graph(sp.csr_matrix(A)).toarray(), graph.toarray())
    assert_array_equal(checked_graph(sp.coo_array(A)).toarray(), graph.toarray())


def test_a_node_without_edges_keeps_its_heat():
    A = sp.block_diag([path(4), np.zeros((2, 2))], format="csr")
    S = normalized_adjacency(checked_graph(A))
    assert_array_equal(S.toarray()[4:, 4:], np.eye(2))
    found = heat_traces(S, axes(6), 6, TS, 6, "chebyshev").mean(0)
    assert_allclose(found, exact_trace(path(4).toarray()) + 2, rtol=1e-12)


@CONTROLS
@pytest.mark.parametrize("k", [1, 3, 5])
def test_with_enough_steps_the_exact_heat_trace(control, k):
    X = normal(50, 3)
    A = graph_of(X, k)
    S = normalized_adjacency(A)
    found = heat_traces(S, axes(50), 50, TS, 50, control).mean(0)
    expected = exact_trace(A.toarray())
    assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert_allclose(expected, [np.trace(expm(-t * laplacian(A.toarray()))) for t in TS], rtol=1e-12)


@CONTROLS
@pytest.mark.parametrize("n_steps", [1, 2, 3, 10])
def test_a_control_does_not_change_the_expectation(control, n_steps):
    S = normalized_adjacency(graph_of(normal(60, 2)))
    plain = heat_traces(S, axes(60), 60, TS, n_steps, None).mean(0)
    controlled = heat_traces(S, axes(60), 60, TS, n_steps, control).mean(0)
    assert_allclose(controlled, plain, rtol=1e-10)


@pytest.mark.parametrize("kind", PROBES)
def test_how_much_each_control_takes_away(kind):
    S = normalized_adjacency(graph_of(normal(400, 3)))

    def deviation(control, t):
        starts = random_probes(400, 100, kind, 0)
        return heat_traces(S, starts, 100, np.array([t]), 10, control).std()

    # Equation 12 is for small t alone, equation 15 for all; the series is the best by far.
    assert deviation("taylor", 0.1) < deviation("linear", 0.1) < deviation(None, 0.1) / 10
    assert deviation("taylor", 5.0) > 10 * deviation(None, 5.0)
    assert deviation("linear", 1.0) < deviation(None, 1.0) / 2
    assert deviation("chebyshev", 1.0) < deviation("linear", 1.0) / 50
    assert deviation("chebyshev", 5.0) < deviation("linear", 5.0) / 2


@pytest.mark.parametrize("n_steps", [1, 3, 10, 40])
def test_nodes_integrate_polynomials_exactly(n_steps):
    S = normalized_adjacency(graph_of(normal(150, 2)))
    starts = np.stack(list(random_probes(150, 4, "normal", 1)), 1)
    nodes, weights = quadrature(S, starts, n_steps)
    assert nodes.shape == weights.shape == (4, n_steps)
    moment = starts.copy()
    for power in range(2 * n_steps):
        exact = (starts * moment).sum(0) / 150
        assert_allclose((weights * nodes**power).sum(1), exact, atol=1e-13)
        moment = S @ moment


def test_many_steps_keep_the_basis_orthogonal():
    # Eigenvalues 1 of eight components converge at once; without care ghosts would follow.
    X = np.vstack([normal(12, 2, seed) + 100 * seed for seed in range(8)])
    S = normalized_adjacency(graph_of(X))
    starts = np.stack(list(random_probes(96, 3, "rademacher", 0)), 1)
    nodes, weights = quadrature(S, starts, 90)
    values, vectors = np.linalg.eigh(S.toarray())
    squares = (vectors.T @ starts) ** 2 / 96
    for t in (0.1, 1.0, 30.0):
        expected = squares.T @ np.exp(t * (values - 1))
        assert_allclose((weights * np.exp(t * (nodes - 1))).sum(1), expected, rtol=1e-12)
    alone = [(own > 1e-6) & (abs(x - 1) < 1e-6) for x, own in zip(nodes, weights, strict=True)]
    assert_array_equal(np.sum(alone, axis=1), 1)


@pytest.mark.parametrize("n_steps", [3, 10, 30])
@pytest.mark.parametrize(
    "A",
    [
        np.ones((12, 12)) - np.eye(12),
        np.kron(np.eye(4), np.ones((3, 3)) - np.eye(3)),
        np.kron(np.ones((6, 6)), [[0, 1], [1, 0]]),
    ],
    ids=["complete", "triangles", "bipartite"],
)
def test_invariant_subspaces_end_the_recurrence(A, n_steps):
    S = normalized_adjacency(checked_graph(A))
    found = heat_traces(S, axes(12), 12, TS, n_steps, "chebyshev").mean(0)
    assert_allclose(found, exact_trace(A), rtol=1e-12)


def test_one_node():
    S = normalized_adjacency(checked_graph(np.zeros((1, 1))))
    assert_allclose(heat_traces(S, axes(1), 1, TS, 10, "chebyshev"), np.ones((1, 9)), rtol=1e-14)


def test_control_polynomials():
    x = np.linspace(-1, 1, 201)

    def polynomial(control, t, most=9):
        (coefficients,) = control_coefficients(control, np.array([t]), most)
        return np.polynomial.Polynomial(coefficients)(x)

    for t in (0.1, 1.0, 7.0):
        heat = np.exp(-t * (1 - x))
        fit = np.polynomial.chebyshev.chebinterpolate(lambda x, t=t: np.exp(-t * (1 - x)), 60)
        for most in (1, 2, 3, 4):
            series = np.polynomial.chebyshev.chebval(x, fit[: most + 1])
            assert_allclose(polynomial("chebyshev", t, most), series, atol=1e-14)
        assert_allclose(polynomial("linear", t), 1 - t * np.exp(-t) * (1 - x), atol=1e-15)
        expansion = 1 - t * (1 - x) + (t * (1 - x)) ** 2 / 2
        assert_allclose(polynomial("taylor", t), expansion, rtol=1e-12, atol=1e-13)
        assert_array_equal(polynomial(None, t), 0 * x)
        assert np.abs(polynomial("chebyshev", t) - heat).max() < 0.3 * heat.max()


@pytest.mark.parametrize("memory", [1024, 1e-3])
def test_traces_of_powers(memory):
    A = graph_of(normal(70, 2)).toarray()
    A[0, 1:40] = A[1:40, 0] = 2.0
    A = np.pad(A, (0, 1))
    S = normalized_adjacency(checked_graph(A))
    with config_context(working_memory=memory):
        found = power_traces(S, 4)
    dense = S.toarray()
    expected = [np.trace(np.linalg.matrix_power(dense, power)) for power in range(5)]
    assert_allclose(found, expected, rtol=1e-12)
    assert_allclose(power_traces(S, 1), expected[:2], rtol=1e-12)


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("n_steps", [10, 30])
def test_blocks_change_nothing(kind, n_steps):
    S = normalized_adjacency(graph_of(normal(200, 3)))

    def values():
        return heat_traces(S, random_probes(200, 25, kind, 3), 25, TS, n_steps, "chebyshev")

    whole = values()
    with config_context(working_memory=0.2):
        assert_allclose(values(), whole, rtol=1e-13)


@pytest.mark.parametrize("kind", PROBES)
def test_probes_have_length_root_n_and_unit_covariance(kind):
    probes = np.array(list(random_probes(20, 4000, kind, 0)))
    assert_allclose((probes**2).sum(1), 20, rtol=1e-14)
    assert_allclose(probes.T @ probes / 4000, np.eye(20), atol=0.08)
    assert_array_equal(probes, np.array(list(random_probes(20, 4000, kind, 0))))
    assert (probes != np.array(list(random_probes(20, 4000, kind, 1)))).any()


def test_null_models():
    n = 30
    assert_array_equal(null_trace("none", n, 5, TS), np.ones(9))
    assert_array_equal(null_trace("empty", n, 5, TS), np.full(9, n))
    assert_array_equal(null_trace("complete", 1, 5, TS), np.ones(9))
    complete = np.ones((n, n)) - np.eye(n)
    assert_allclose(null_trace("complete", n, 5, TS), exact_trace(complete), rtol=1e-12)
    spectrum = np.linspace(1 - 2 / np.sqrt(5), 1 + 2 / np.sqrt(5), n)
    expected = np.exp(-np.outer(TS, spectrum)).sum(1)
    assert_allclose(null_trace("erdos_renyi", n, 5, TS), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"normalization='erdos_renyi' .* at least 4, got 3"):
        null_trace("erdos_renyi", n, 3, TS)


def test_the_random_graph_is_as_the_paper_takes_it():
    # C.4 wants the spectrum of a random graph of the same degree.
    rng = np.random.default_rng(0)
    upper = np.triu(rng.uniform(size=(600, 600)) < 20 / 600, 1).astype(float)
    exact = exact_trace(upper + upper.T)
    assert_allclose(null_trace("erdos_renyi", 600, 20, TS)[:5], exact[:5], rtol=0.05)


def test_graphs_of_a_library():
    X = normal(50, 3)
    library = KNeighborsTransformer(n_neighbors=9, algorithm="brute")
    found = graph_of(X, 5, library)
    assert_array_equal(found.toarray(), graph_of(X).toarray())
    assert not hasattr(library, "n_features_in_")
