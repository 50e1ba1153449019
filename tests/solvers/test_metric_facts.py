import math

import mpmath
import numpy as np
import pytest
import torch

from skmag._metrics import EPS, resolve_metric
from skmag._solvers._bounds import distance_error, norm_order

METRICS = [
    ("euclidean", {}),
    ("cityblock", {}),
    ("chebyshev", {}),
    ("cosine", {}),
    ("minkowski", {"p": 1.0}),
    ("minkowski", {"p": 1.5}),
    ("minkowski", {"p": 2.0}),
    ("minkowski", {"p": 3.0}),
    ("minkowski", {"p": 40.0}),
    ("minkowski", {"p": math.inf}),
]


def exact_distance(a, b, metric, params):
    order = {"euclidean": 2, "cityblock": 1, "chebyshev": math.inf, "cosine": 2}.get(metric)
    order = params["p"] if order is None else order
    gaps = [abs(mpmath.mpf(x) - mpmath.mpf(y)) for x, y in zip(a, b, strict=True)]
    if order == math.inf:
        return max(gaps)
    norm = mpmath.fsum(gap ** mpmath.mpf(order) for gap in gaps) ** (1 / mpmath.mpf(order))
    return norm**2 / 2 if metric == "cosine" else norm


def adversarial(kind, features, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, features))
    if kind == "offset":
        X += 1e6 * rng.normal(size=features)
    if kind == "near duplicates":
        X[1::2] = X[::2] + rng.normal(size=X[::2].shape) * 10.0 ** -rng.integers(0, 9, size=(20, 1))
    if kind == "just above the share":
        # |a - b|^2 next to 1e-2 (|a|^2 + |b|^2), beside one far point that moves the centre.
        X = X[:1] + 0.1 * X / np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(X[0])
        X[-1] = -30 * X[0]
    if kind == "one sign":
        X = np.exp(X)
    if kind == "tiny":
        X *= 1e-200
    if kind == "huge":
        X *= 1e200
    return X


@pytest.mark.parametrize("features", [1, 23, 24, 100])
@pytest.mark.parametrize(
    "kind",
    ["plain", "offset", "near duplicates", "just above the share", "one sign", "tiny", "huge"],
)
@pytest.mark.parametrize(
    ("metric", "params"), [case for case in METRICS if case[1].get("p") not in (1, 2, math.inf)]
)
def test_no_entry_is_further_off(metric, params, kind, features):
    resolved = resolve_metric(metric, params)
    raw = torch.from_numpy(adversarial(kind, features))
    # One feature has two directions only.
    points = resolved.points(raw, "X") if metric != "cosine" or features > 1 else raw[:2].sign()
    found = resolved.block(points, points).numpy()
    bound, rows = distance_error(resolved, features), points.numpy()
    rng = np.random.default_rng(1)
    with mpmath.workdps(60):
        for i, j in rng.integers(0, len(rows), size=(25, 2)):
            exact = exact_distance(rows[i], rows[j], metric, params)
            if exact > (64 * EPS**2 if metric == "cosine" else 0):
                assert abs(mpmath.mpf(float(found[i, j])) - exact) <= bound * exact


@pytest.mark.parametrize(("metric", "params"), METRICS)
def test_it_grows_with_the_features_and_is_small(metric, params):
    resolved = resolve_metric(metric, params)
    values = [distance_error(resolved, D) for D in (1, 2, 10, 23, 24, 100, 1000)]
    assert np.all(np.diff(values) >= 0)
    assert EPS <= values[0] <= values[2] < 5e-15
    assert values[-1] < 1e-10


def test_only_tables_are_exact_and_others_are_not_known():
    assert distance_error(resolve_metric("precomputed", {}), 0) == 0
    weighted = resolve_metric("minkowski", {"p": 2, "w": [1.0, 2.0]})
    for metric in (weighted, *(resolve_metric(name, {}) for name in ("canberra", math.dist))):
        assert distance_error(metric, 2) == math.inf
        assert math.isnan(norm_order(metric, 2))


def test_norms_agree_on_one_feature():
    for metric, params in METRICS:
        resolved = resolve_metric(metric, params)
        assert norm_order(resolved, 1) == 1 or not resolved.is_norm
    assert norm_order(resolve_metric("chebyshev", {}), 2) == math.inf
    assert norm_order(resolve_metric("minkowski", {"p": 1.5}), 2) == 1.5
    assert norm_order(resolve_metric("manhattan", {}), 3) == 1
    assert norm_order(resolve_metric("l2", {}), 3) == 2
