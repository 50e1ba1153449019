import importlib
import os
import signal
import sys
import warnings

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from left_out import blobs
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

import skmag
from skmag import (
    MagnitudeClassifier,
    MagnitudeClassifierCV,
    MagnitudeOutlierDetector,
    magnitude_two_sample_test,
    pairwise_magnitude_distances,
)
from skmag._hierarchy import Space, farthest_first
from skmag._metrics import resolve_metric
from skmag.dask import DaskWeighting, weighting
from skmag.dask import _graph as graph
from skmag.dask._cells import Cells
from skmag.dask._cuts import cells_of as spatial_cells
from skmag.dask._cuts import cuts
from skmag.dask._factor import Kernel
from skmag.dask._levels import _columns as columns_in_cells
from skmag.dask._levels import unit_of
from skmag.dask._neighbors import nearest_beyond
from skmag.dask._spread import spread

rng = np.random.default_rng(0)
PLANE = rng.normal(size=(900, 2))
CUBE = rng.uniform(size=(800, 3))
ANGLE = rng.uniform(0, 6, size=600)
CURVE = np.stack([np.cos(ANGLE), np.sin(ANGLE), ANGLE], axis=1)
COPIES = PLANE[:200][rng.integers(200, size=700)]
GRID = rng.permutation(np.stack(np.meshgrid(*[np.arange(9) * 0.1] * 3), axis=-1).reshape(-1, 3))
# Directions, each of them three times, at lengths that round differently.
RAYS = rng.permutation(np.concatenate([CUBE[:150] - 0.5] * 3) * rng.uniform(1, 9, size=(450, 1)))


@pytest.fixture(scope="module")
def client():
    """Two workers, processes of one thread each."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            # Any free port: a cluster of someone else's may have the usual one.
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def here():
    """Tasks run in this thread, whatever clients there are."""
    with dask.config.set(scheduler="synchronous"):
        yield


def local(X, **params):
    names = ("n_centers", "n_neighbors", "random_state")
    own = {name: params.pop(name) for name in names if name in params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return skmag.weighting(
            X, solver="sparse", solver_params={"canonical": True, **own}, **params
        )


def chunked(X, rows, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return weighting(da.from_array(X, chunks=(rows, X.shape[1])), **params)


def assert_same(found, expected):
    assert isinstance(found, DaskWeighting)
    np.testing.assert_allclose(found.weights.compute(), expected.weights, rtol=1e-8, atol=1e-11)
    assert found.magnitude == pytest.approx(expected.magnitude, rel=1e-10)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-8, abs=1e-15)
    assert found.lower == pytest.approx(expected.lower, rel=1e-12)
    assert found.upper == pytest.approx(expected.upper, rel=1e-12)
    assert (found.n_points, found.n_samples) == (expected.n_points, expected.n_samples)
    assert (found.converged, found.t) == (expected.converged, expected.t)
    for name, value in expected.details.items():
        assert found.details[name] == pytest.approx(value, rel=1e-8)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("X", "rows", "params"),
    [
        (PLANE, 300, {}),
        (PLANE, 900, {}),
        (PLANE, (1, 500, 0, 99, 300), {"random_state": 3}),
        (PLANE, 300, {"t": 1e-3}),
        (PLANE, 300, {"n_centers": 1}),
        (PLANE, 300, {"t": "scale", "n_neighbors": 5}),
        (PLANE, 300, {"t": 1e4}),
        (PLANE, 300, {"metric": "cityblock"}),
        (PLANE, 300, {"metric": "minkowski", "metric_params": {"p": 1.5}}),
        (PLANE[:, :1], 300, {}),
        (CUBE, 160, {}),
        (CUBE, 160, {"metric": "cosine", "t": 300.0}),
        (CURVE, 130, {}),
        (COPIES, 240, {"t": 5.0}),
        (GRID, 150, {"t": 3.0}),
        (GRID, 150, {"t": 3.0, "metric": "cityblock"}),
        (RAYS, 150, {"metric": "cosine", "t": 300.0}),
    ],
)
def test_equals_the_local_solve(X, rows, params):
    params = {"n_centers": 60, "tol": 1e-4} | params
    assert_same(chunked(X, rows, **params), local(X, **params))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_few_points(n):
    assert_same(chunked(PLANE[:n], 2), local(PLANE[:n], tol=1e-5))
    assert_same(chunked(np.ones((n, 2)), 2), local(np.ones((n, 2)), tol=1e-5))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("n", "n_centers"), [(2, 1), (61, 60), (64, 60), (501, None), (1001, None)]
)
def test_one_point_or_few_beside_the_centers(n, n_centers):
    # The first round's centers are half of those asked for, then all of them.
    X = np.random.default_rng(n).normal(size=(n, 2))
    given = {} if n_centers is None else {"n_centers": n_centers}
    assert_same(chunked(X, 300, **given), local(X, tol=1e-5, **given))


@pytest.mark.usefixtures("here")
def test_weights_come_in_the_chunks_of_the_rows():
    X = da.from_array(COPIES.astype(np.float32), chunks=((1, 400, 299), 2))
    found = weighting(X, n_centers=50, tol=1e-2)
    assert found.weights.chunks == ((1, 400, 299),)
    w = found.weights.compute()
    points, group = np.unique(COPIES.astype(np.float32), axis=0, return_inverse=True)
    for copies in (w[group == g] for g in range(len(points))):
        assert np.ptp(copies) == 0
    exact = skmag.weighting(COPIES.astype(np.float32), solver="cholesky")
    assert found.magnitude == pytest.approx(exact.magnitude, rel=1e-2)


def test_threads_do_the_same():
    with dask.config.set(scheduler="threads", num_workers=4):
        found = chunked(CUBE, 100, n_centers=60)
    assert_same(found, local(CUBE, n_centers=60, tol=1e-5))


@pytest.mark.usefixtures("here")
def test_says_that_it_did_not_converge():
    X = da.from_array(np.random.default_rng(1).normal(size=(400, 10)), chunks=(100, 10))
    with pytest.warns(ConvergenceWarning, match=r"did not reach tol=1e-09 for n=400 .*n_centers"):
        found = weighting(X, t=0.2, n_centers=20, tol=1e-9)
    assert not found.converged


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("X", [PLANE, CUBE, GRID, COPIES], ids=["plane", "cube", "grid", "copies"])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_centers_are_those_of_the_whole(monkeypatch, X, metric):
    # Few candidates make many rounds.
    monkeypatch.setattr("skmag.dask._spread._CANDIDATES", 0)
    cells = cells_of(X, 7, metric)
    found = spread(cells, 150, unit_of(cells))
    points = X[np.sort(np.unique(X, axis=0, return_index=True)[1])]
    expected = farthest_first(Space(cells.metric, torch.from_numpy(points)), 150)
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.radii, expected.radii)
    assert found.reach == cdist(points[:1], points, metric).max()


def cells_of(X, n_parts, metric="euclidean"):
    blocks = np.array_split(X, n_parts)
    sizes = [len(part) for part in blocks]
    return Cells.of(
        [dask.delayed(part) for part in blocks], sizes, X.shape[1], resolve_metric(metric, {})
    )


def zero_inflated(rng):
    return rng.normal(size=(4000, 10)) * (rng.uniform(size=(4000, 10)) < 0.2)


def rare_flag(rng):
    flag = 1e3 * (rng.uniform(size=(4000, 1)) < 0.002)
    return np.concatenate([flag, rng.normal(size=(4000, 2))], axis=1)


def one_hot(rng):
    return np.concatenate(
        [np.eye(30)[rng.integers(30, size=4000)], rng.normal(size=(4000, 1))], axis=1
    )


def words(rng):
    """Counts of words, most of which a text lacks, and each text lacks most of."""
    return rng.poisson(0.03, size=(4000, 100)).astype(float)


def flags_only(rng):
    return (rng.uniform(size=(4000, 14)) < 0.3).astype(float)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("make", [zero_inflated, rare_flag, one_hot, words, flags_only])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_cell_holds_much_more_than_its_share(make, sign):
    X = sign * make(np.random.default_rng(0))
    cells = cells_of(X, 20)
    assert max(len(own) for own in cells.numbers) <= 2 * len(X) / 20
    assert 10 <= len(cells.parts) <= 30


def test_equal_points_are_not_cut_apart():
    found = cuts(np.ones((50, 2)), 5)
    assert found.n_cells == 1
    assert not spatial_cells(np.ones((3, 2)), found).any()


def one_by_one(points, order, n_first, k, p):
    """Nearest earlier points of each point, of those at one distance the earlier ones."""
    out = []
    for i in range(n_first, len(order)):
        own = order[i]
        d = np.linalg.norm(points[order[:i]] - points[own], ord=p, axis=1)
        near = order[np.lexsort((np.arange(i), d))[:k]].tolist()
        out.append([own, *near, *[own] * (k - len(near))])
    return np.array(sorted(out))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("head", [0, 64, 200, 10_000])
@pytest.mark.parametrize(
    ("X", "metric", "p"), [(PLANE, "euclidean", 2), (GRID, "cityblock", 1), (CUBE, "euclidean", 2)]
)
@pytest.mark.parametrize("n_first", [1, 40])
def test_neighbors_are_those_of_the_whole(monkeypatch, X, metric, p, head, n_first):
    monkeypatch.setattr("skmag.dask._levels._HEAD", head)
    # On a grid of eighths distances are exact, so that ties are.
    X = np.round(X * 8) / 8 if metric == "euclidean" else np.round(X * 10)
    X = X[np.sort(np.unique(X, axis=0, return_index=True)[1])]
    cells = cells_of(X, 9, metric)
    order = np.random.default_rng(1).permutation(len(X))
    kernel = Kernel(cells.metric, 1.0, 1.0, X[:1], False)
    parts = dask.compute(*columns_in_cells(cells, kernel, order, n_first, 6))
    found = np.concatenate([part.numbers[part.indices] for part in parts])
    expected = one_by_one(X, order, n_first, 6, p)
    np.testing.assert_array_equal(found[found[:, 0].argsort()], expected)


@pytest.mark.usefixtures("here")
def test_only_near_cells_are_asked(monkeypatch):
    monkeypatch.setattr("skmag.dask._levels._HEAD", 1000)
    asked = []

    def counted(*args):
        asked.append(args)
        return nearest_beyond(*args)

    monkeypatch.setattr("skmag.dask._levels.nearest_beyond", counted)
    X = np.random.default_rng(0).uniform(size=(4000, 2))
    chunked(X, 100, n_centers=100, tol=1e-2)
    # Each of 40 cells has eight around it or fewer, and some of those behind are near enough.
    assert 0 < len(asked) < 40 * 39 / 2


def bad(row=None, value=np.nan):
    X = PLANE.copy()
    if row is not None:
        X[row, 1] = value
    return da.from_array(X, chunks=(300, 2))


def declared(block, shape):
    return da.from_delayed(dask.delayed(block), shape, dtype=float)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("X", "params", "error", "match"),
    [
        (PLANE, {}, TypeError, "X must be a dask.array.Array, not ndarray; use skmag.weighting"),
        (bad()[:, 0], {}, ValueError, "two dimensions"),
        (bad().rechunk((300, 1)), {}, ValueError, r"chunked by features.*rechunk\(\{1: -1\}\)"),
        (bad()[bad()[:, 0] > 0], {}, ValueError, r"unknown size.*compute_chunk_sizes\(\)"),
        (bad()[:0], {}, ValueError, r"X is empty, its shape is \(0, 2\)"),
        (bad().astype(complex), {}, ValueError, "dtype complex128"),
        (bad(420), {}, ValueError, r"X in partition 1 \(rows 300 to 599\).*NaN.*in row 420"),
        (bad(899, np.inf), {}, ValueError, r"partition 2 \(rows 600 to 899\).*in row 899"),
        (0 * bad(), {"metric": "cosine"}, ValueError, "X in partition .* has 300 rows of zeros"),
        (bad(), {"metric": "canberra"}, ValueError, "metric='canberra'"),
        (bad(), {"metric": "precomputed"}, ValueError, "metric='precomputed'"),
        (da.ones((5, 3)), {"metric": "chebyshev"}, ValueError, "metric='chebyshev' is not known"),
        (bad(), {"t": 0.0}, ValueError, "t=0.0 must be positive"),
        (bad(), {"tol": 2}, ValueError, "tol=2 must be"),
        (
            bad().map_blocks(csr_array),
            {},
            TypeError,
            r"X in partition \d \(rows .*\) is a sparse csr_array.*map_blocks",
        ),
        (
            da.ma.masked_where(bad() == PLANE[420, 0], bad()),
            {},
            ValueError,
            r"X in partition 1 \(rows 300 to 599\) has masked entries, first in row 420",
        ),
        (
            da.concatenate([bad(), declared(PLANE[:250], (300, 2))]),
            {},
            ValueError,
            r"X in partition 3 \(rows 900 to 1199\) has shape \(250, 2\).*declares \(300, 2\)",
        ),
        (
            da.concatenate([bad(), declared(PLANE[:250, :1], (250, 2))]),
            {},
            ValueError,
            r"has shape \(250, 1\).*declares \(250, 2\)",
        ),
        (
            da.concatenate([bad(), da.zeros((1, 2))]),
            {"metric": "cosine"},
            ValueError,
            r"X in partition 3 \(rows 900 to 900\) has 1 rows of zeros",
        ),
        *[
            (bad(), {"random_state": seed}, ValueError, f"random_state={seed!r} must be a non-neg")
            for seed in (-1, "abc", None, True, 1.5)
        ],
        (bad(), {"n_centers": 0}, ValueError, "n_centers=0 must be a positive integer"),
        (bad(), {"n_neighbors": 1.5}, ValueError, "n_neighbors=1.5 must be a positive integer"),
    ],
)
def test_errors(X, params, error, match):
    with pytest.raises(error, match=match):
        weighting(X, **params)


@pytest.mark.usefixtures("here")
def test_nothing_masked_is_fine():
    X = da.ma.masked_invalid(bad())
    params = {"n_centers": 60, "tol": 1e-4}
    assert_same(weighting(X, **params), local(PLANE, **params))


@pytest.mark.usefixtures("here")
def test_weightings_are_told_apart_by_identity():
    one, other = chunked(PLANE[:5], 2), chunked(PLANE[:5], 2)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    monkeypatch.delitem(sys.modules, "skmag.dask")
    with pytest.raises(ImportError, match=r"needs dask, .*pip install 'skmag\[dask\]'"):
        importlib.import_module("skmag.dask")


@pytest.mark.usefixtures("client")
def test_a_cluster_equals_the_local_solve():
    params = {"n_centers": 60, "tol": 1e-4, "t": 3.0}
    assert_same(chunked(COPIES, 150, **params), local(COPIES, **params))


def test_a_killed_worker_changes_nothing(client, monkeypatch):
    params = {"n_centers": 60, "tol": 1e-4, "t": 3.0}
    victim, other = client.run(os.getpid).values()
    killed = []

    def compute(*tasks):
        # Its cells and columns have been made and are asked for now.
        if not killed and str(tasks[0].key).startswith("tails"):
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        return dask.compute(*tasks)

    monkeypatch.setattr(graph, "dask_compute", compute)
    found = chunked(PLANE, 200, **params)
    assert killed
    assert other in client.run(os.getpid).values()
    assert_same(found, local(PLANE, **params))


def classes(n_jobs=2):
    X, y = blobs()
    model = MagnitudeClassifier(n_jobs=n_jobs).fit(X, y)
    return [model.predict_proba(X + 0.1), model.weights_]


def scales(n_jobs=2):
    X, y = blobs()
    model = MagnitudeClassifierCV(
        ts=[0.1, 1.0, "scale"], criteria=("residual", "gain"), store_cv_results=True, n_jobs=n_jobs
    ).fit(X, y)
    return [model.scores_, model.cv_results_, model.predict_proba(X + 0.1), model.best_t_]


def subsamples(n_jobs=2):
    X, _ = blobs()
    model = MagnitudeOutlierDetector(n_estimators=5, random_state=0, n_jobs=n_jobs).fit(X)
    return [model.decision_function(X + 0.1), model.offset_]


def datasets(n_jobs=2):
    sets = [PLANE[i : i + 60] + i / 100 for i in range(0, 300, 60)]
    return [pairwise_magnitude_distances(sets, n_jobs=n_jobs)]


def permutations(n_jobs=2):
    X, _ = blobs()
    found = magnitude_two_sample_test(
        X[:45], X[45:] + 0.1, n_resamples=19, block_size=15, rng=0, n_jobs=n_jobs
    )
    return [found.statistic, found.pvalue]


class Finished(SchedulerPlugin):
    """Counts the tasks that workers finish."""

    def __init__(self):
        self.count = 0

    def transition(self, key, start, finish, *args, **kwargs):
        self.count += (start, finish) == ("processing", "memory")


@pytest.fixture
def finished(client):
    plugin = Finished()
    client.cluster.scheduler.add_plugin(plugin, name="finished")
    yield plugin
    client.cluster.scheduler.remove_plugin("finished")


@pytest.mark.parametrize("backend", ["dask", "loky", "threading"])
@pytest.mark.parametrize("job", [classes, scales, subsamples, datasets, permutations])
def test_joblib_elsewhere_equals_joblib_here(finished, backend, job):
    expected = job(n_jobs=1)
    assert finished.count == 0
    with joblib.parallel_config(backend=backend):
        found = job()
    assert (finished.count > 0) == (backend == "dask")
    for one, other in zip(found, expected, strict=True):
        # Workers have one BLAS thread. With more of them here sums are taken in another order.
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)
