import math
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import with_copies

import skmag
from skmag.nn import magnitude_potential_ratio

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PLACES = ["cpu", pytest.param("cuda", marks=CUDA)]
TS = [0.01, 1.0, 7.0, 60.0, "scale"]


def points(n, d, seed=0, scale=1.0):
    return torch.tensor(scale * np.random.default_rng(seed).normal(size=(n, d)))


def shares_of(n, n_classes, seed=0):
    """Numbers to weight ratios with, so that no gradient is zero for symmetry."""
    return torch.tensor(np.random.default_rng(seed).uniform(1, 2, size=(n, n_classes)))


@pytest.mark.parametrize("t", TS)
@pytest.mark.parametrize("d", [1, 2, 30])
def test_values_are_those_of_the_estimator_suite(d, t):
    X, y = points(40, d), np.arange(40) % 4
    queries = points(9, d, seed=1)
    queries[3] = X[5]
    for Z in (None, queries):
        expected = skmag.magnitude_potential_ratio(X, y, Z, t=t)
        found = magnitude_potential_ratio(X, torch.from_numpy(y), Z, t=t)
        assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", TS)
def test_copies_are_one_point(t):
    X = torch.from_numpy(with_copies())
    y = list("bbaabbbabaca")  # copies 1, 3, 7, 8 in two classes; "c" has one member
    for Z in (None, torch.cat([points(4, 2, seed=1), X[:3]])):
        expected = skmag.magnitude_potential_ratio(X, y, Z, t=t)
        found = magnitude_potential_ratio(X, y, Z, t=t)
        assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-10)
        leaf = X.clone().requires_grad_()
        ratios = magnitude_potential_ratio(leaf, y, Z, t=t)
        (ratios * shares_of(*ratios.shape)).sum().backward()
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().sum() > 0
        for copy in (3, 7, 8):
            torch.testing.assert_close(leaf.grad[copy], leaf.grad[1], rtol=0, atol=0)


def test_copies_share_the_gradient_of_their_point():
    X, y, Z = points(6, 2), torch.tensor([0, 1, 0, 1, 0, 1]), points(5, 2, seed=1)

    def gradient(rows, labels):
        rows = rows.clone().requires_grad_()
        ratios = magnitude_potential_ratio(rows, labels, Z)
        (ratios * shares_of(5, 2)).sum().backward()
        return rows.grad

    expected = gradient(X, y)
    copied = gradient(torch.cat([X, X[[2, 2]]]), torch.cat([y, y[[2, 2]]]))
    torch.testing.assert_close(copied[[2, 6, 7]], (expected[2] / 3).expand(3, 2))
    rest = [0, 1, 3, 4, 5]
    torch.testing.assert_close(copied[rest], expected[rest])


def test_a_query_equal_to_copies():
    X, y = points(6, 2), torch.arange(6) % 2

    def gradient(n_copies):
        asked = X.clone().requires_grad_()
        rows = X.repeat(n_copies, 1).requires_grad_()
        ratios = magnitude_potential_ratio(rows, y.repeat(n_copies), asked)
        (ratios * shares_of(6, 2)).sum().backward()
        return asked.grad

    # A sum of seven sevenths is not one: the query would be pulled in the direction of rounding.
    torch.testing.assert_close(gradient(7), gradient(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_equal_logits(n_classes):
    y = torch.arange(6) % n_classes
    leaf = torch.ones(6, 10, requires_grad=True)
    found = magnitude_potential_ratio(leaf, y)
    expected = torch.full((6, n_classes), math.inf)
    expected[torch.arange(6), y] = math.nan
    torch.testing.assert_close(found.detach(), expected, equal_nan=True)
    assert_allclose(skmag.magnitude_potential_ratio(leaf.detach(), y), expected)


def test_what_is_not_represented_is_a_positive_zero():
    # The third point is alone in its class: left out, there is nothing.
    found = magnitude_potential_ratio(torch.tensor([[0.0], [1.0], [3.0]]), [0, 0, 1])
    assert found[2, 1] == 0
    assert not found.signbit().any()


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 9),
    d=st.integers(1, 4),
    n_classes=st.integers(1, 4),
    t=st.floats(0.2, 5),
    seed=st.integers(0, 2**31),
)
def test_gradcheck_of_rows_left_out(n, d, n_classes, t, seed):
    rng = np.random.default_rng(seed)
    # Points apart from each other: near a kink finite differences have no digits.
    X = torch.tensor(rng.permutation(np.arange(n))[:, None] + rng.uniform(0, 0.8, size=(n, d)))
    y = torch.tensor(rng.integers(0, n_classes, n))
    assert torch.autograd.gradcheck(
        lambda rows: magnitude_potential_ratio(rows, y, t=t), X.requires_grad_(), atol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 8),
    d=st.integers(1, 4),
    n_classes=st.integers(1, 3),
    t=st.floats(0.2, 5),
    coinciding=st.sampled_from(["none", "two points", "query and point"]),
    seed=st.integers(0, 2**31),
)
def test_gradcheck_of_queries(n, d, n_classes, t, coinciding, seed):
    rng = np.random.default_rng(seed)
    spread = rng.permutation(np.arange(n + 3))[:, None] + rng.uniform(0, 0.8, size=(n + 3, d))
    X, Z = torch.tensor(spread[:n]), torch.tensor(spread[n:])
    y = torch.tensor(rng.integers(0, n_classes, n))
    if coinciding == "two points":
        X, y = torch.cat([X, X[:1]]), torch.cat([y, y[:1]])
    if coinciding == "query and point":
        Z[0] = X[-1]
    # At a kink the mean of both sides, which central differences give but for their step.
    assert torch.autograd.gradcheck(
        lambda rows, asked: magnitude_potential_ratio(rows, y, asked, t=t),
        (X.requires_grad_(), Z.requires_grad_()),
        eps=1e-7,
        atol=1e-5,
    )


def test_the_scale_is_a_constant():
    X, y = points(12, 3), torch.arange(12) % 3
    pairs = torch.pdist(X)
    median = float(np.median(pairs.numpy()))
    gradients = []
    for t in ("scale", 1 / median):
        leaf = X.clone().requires_grad_()
        magnitude_potential_ratio(leaf, y, t=t)[:, 0].sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_types_and_places(dtype, place, autocast):
    X, y, Z = points(30, 5).to(dtype), torch.arange(30) % 3, points(7, 5, seed=1).to(dtype)
    for asked in (None, Z):
        exact = X.double().requires_grad_()
        expected = magnitude_potential_ratio(exact, y, None if asked is None else asked.double())
        expected[:, 0].sum().backward()
        leaf = X.clone().to(place).detach().requires_grad_()
        with torch.autocast(place, dtype=torch.bfloat16) if autocast else nullcontext():
            found = magnitude_potential_ratio(
                leaf, y.to(place), None if asked is None else asked.to(place)
            )
            found[:, 0].sum().backward()
        assert found.dtype == torch.float32
        assert (leaf.grad.dtype, leaf.grad.device) == (dtype, leaf.device)
        torch.testing.assert_close(found.detach().cpu(), expected.detach().float())
        torch.testing.assert_close(leaf.grad.cpu(), exact.grad.to(dtype), rtol=2e-2, atol=1e-6)


def test_what_underflows_is_nan_and_harms_nothing_else():
    X = torch.tensor([[0.0], [1.0], [2000.0], [2001.0], [9000.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 1])
    expected = skmag.magnitude_potential_ratio(X, y)
    leaf = X.clone().requires_grad_()
    found = magnitude_potential_ratio(leaf, y)
    assert_allclose(found.detach().numpy(), expected, rtol=1e-10)
    assert found[4].isnan().all()
    found.nansum().backward()
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("d", [1, 2])
def test_small_potentials_keep_their_digits(d):
    X = torch.zeros(4, d, dtype=torch.float64)
    X[:, 0] = torch.arange(4)
    y = [0, 0, 1, 1]
    expected = skmag.magnitude_potential_ratio(X, y, t=60.0)
    found = magnitude_potential_ratio(X, y, t=60.0)
    assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("labels", [list, np.array, pd.Series, torch.tensor, tuple])
def test_kinds_of_labels(labels):
    numbers = [2, 0, 0, 1, 2, 0, 1]
    expected = magnitude_potential_ratio(points(7, 3), np.array(numbers))
    found = magnitude_potential_ratio(points(7, 3), labels(numbers))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_second_derivative_is_refused():
    X = points(6, 2).requires_grad_()
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        magnitude_potential_ratio(X, [0, 1] * 3).sum().backward(create_graph=True)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"logits": np.zeros((4, 2))}, TypeError, "logits"),
        ({"logits": torch.zeros(4)}, ValueError, "logits has shape"),
        ({"logits": torch.zeros(2, 4, 2)}, ValueError, "logits has shape"),
        ({"logits": torch.zeros(0, 2)}, ValueError, "logits has shape"),
        ({"logits": torch.zeros(4, 2, dtype=torch.int64)}, TypeError, "logits"),
        ({"logits": torch.full((4, 2), math.nan)}, ValueError, "logits holds NaN"),
        ({"y": [0, 1, 2]}, ValueError, r"y has shape \(3,\), expected \(4,\)"),
        ({"y": [0, 1, math.nan, 1]}, ValueError, "y holds NaN"),
        ({"y": None}, ValueError, "y has shape"),
        ({"queries": torch.zeros(3, 3)}, ValueError, "queries has 3 features but logits has 2"),
        ({"queries": torch.zeros(0, 2)}, ValueError, "queries has shape"),
        ({"queries": torch.full((1, 2), math.inf)}, ValueError, "queries holds NaN or infinity"),
        ({"t": 0}, ValueError, "t=0"),
        ({"t": torch.ones((), requires_grad=True)}, ValueError, r"pass t\.detach\(\)"),
        ({"t": "median"}, ValueError, "t='median'"),
    ],
)
def test_bad_arguments(changed, error, message):
    arguments = {"logits": points(4, 2), "y": [0, 0, 1, 1], **changed}
    with pytest.raises(error, match=message):
        magnitude_potential_ratio(**arguments)


def test_a_similarity_without_a_factor():
    X = points(5, 2)
    X[1] = X[0] + 1e-15
    with pytest.raises(np.linalg.LinAlgError, match=r"n=5 distinct points at t=0\.5.*larger t"):
        magnitude_potential_ratio(X, [0, 1, 0, 1, 0], t=0.5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_queries_on_another_device():
    with pytest.raises(ValueError, match="queries is on cuda:0 but logits is on cpu"):
        magnitude_potential_ratio(points(4, 2), [0, 0, 1, 1], points(3, 2).to("cuda:0"))
