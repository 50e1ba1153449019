import copy
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import LinAlgWarning
from torch.autograd import gradcheck

from skmag import magnitude_distance
from skmag.nn import MagnitudeDistanceLoss, magnitude_distance_loss

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PLACES = ["cpu", pytest.param("cuda", marks=CUDA)]
# Features below and above the number from which distances come from a matrix product.
FEATURES = (1, 2, 3, 30)


def points(n, d, seed=0, shift=0.0, lead=()):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*lead, n, d, generator=rng, dtype=torch.float64) + shift


def finite_differences(X, Y, step=1e-5, **options):
    """Derivative of the public distance by the coordinates of the first set."""
    X, Y, slopes = X.numpy(), Y.numpy(), np.zeros(X.shape)
    for place in np.ndindex(*X.shape):
        moved = []
        for sign in (1, -1):
            X_moved = X.copy()
            X_moved[place] += sign * step
            moved.append(magnitude_distance(X_moved, Y, **options))
        slopes[place] = (moved[0] - moved[1]) / (2 * step)
    return slopes


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("normalized", "d"), list(product([False, True], FEATURES)))
def test_values_are_those_of_the_public_distance(normalized, d, place):
    X, Y, scales = points(9, d, lead=(2, 3)), points(7, d, seed=1, shift=0.4, lead=(2, 3)), [0.2, 3]
    X[0, 0, 4], X[0, 1, 2], Y[1, 2, 3] = X[0, 0, 1], Y[0, 1, 5], Y[1, 2, 0]
    found = magnitude_distance_loss(
        X.to(place),
        Y.to(place),
        scales,
        normalized=normalized,
        aggregate=None,
        reduction="none",
    )
    assert found.shape == (2, 3, 2)
    assert found.dtype == torch.float64
    for i, j in np.ndindex(2, 3):
        expected = magnitude_distance(
            X[i, j].numpy(), Y[i, j].numpy(), t=scales, normalized=normalized
        )
        np.testing.assert_allclose(found[i, j].cpu(), expected, rtol=1e-10, atol=1e-13)


@given(
    n=st.integers(1, 4),
    m=st.integers(1, 4),
    d=st.sampled_from((1, 2, 3, 24)),
    scales=st.lists(st.floats(0.05, 4), min_size=1, max_size=2),
    normalized=st.booleans(),
    pairs=st.integers(0, 2),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=20, deadline=None)
def test_gradient_agrees_with_differences(n, m, d, scales, normalized, pairs, seed):
    X, Y = points(n, d, seed, lead=(2,)), points(m, d, seed + 1, lead=(2,))
    if pairs > 0 and n > 1:
        X[0, 1] = X[0, 0]
    if pairs > 1:
        Y[1, 0] = X[1, 0]

    def loss(X, Y):
        return magnitude_distance_loss(X, Y, scales, normalized=normalized, reduction="none")

    assert gradcheck(loss, (X.requires_grad_(), Y.requires_grad_()), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize(("normalized", "d"), list(product([False, True], FEATURES)))
def test_gradient_is_that_of_the_public_distance(normalized, d):
    X, Y = points(6, d), points(5, d, seed=1, shift=0.3)
    X[3], X[5] = X[1], Y[2]
    leaf = X.clone().requires_grad_()
    magnitude_distance_loss(leaf, Y, 0.7, normalized=normalized).backward()
    expected = finite_differences(X, Y, t=0.7, normalized=normalized)
    np.testing.assert_allclose(leaf.grad, expected, rtol=1e-6, atol=1e-6)


def test_copies_share_the_gradient_of_the_point_they_are():
    X, Y = points(4, 2), points(5, 2, seed=1)
    alone = X.clone().requires_grad_()
    magnitude_distance_loss(alone, Y).backward()
    place = torch.tensor([0, 2, 1, 2, 3, 2])
    copied = X[place].requires_grad_()
    magnitude_distance_loss(copied, Y).backward()
    torch.testing.assert_close(copied.grad[1], alone.grad[2] / 3)
    summed = torch.zeros_like(X).index_add_(0, place, copied.grad)
    torch.testing.assert_close(summed, alone.grad)


@pytest.mark.parametrize("d", FEATURES)
def test_equal_sets_have_no_distance_and_no_gradient(d):
    X = points(20, d)
    leaf = X.clone().requires_grad_()
    loss = magnitude_distance_loss(leaf, X.flip(0), [0.1, 1.0, 10.0])
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert leaf.grad.abs().max() < 1e-10


@pytest.mark.parametrize("d", FEATURES)
def test_a_collapsed_generator_has_a_loss_and_a_way_out(d):
    Y = points(30, d)
    leaf = Y.mean(0).repeat(10, 1).add(2.0).requires_grad_()
    loss = magnitude_distance_loss(leaf, Y, [0.3, 1.0], normalized=True)
    loss.backward()
    expected = magnitude_distance(
        leaf.detach()[:1].numpy(), Y.numpy(), t=[0.3, 1.0], normalized=True, aggregate="sum"
    )
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.abs().sum() > 0
    torch.testing.assert_close(leaf.grad, leaf.grad[:1].expand_as(leaf))


def test_only_the_normalized_distance_tells_a_collapse_at_large_scales():
    X, Y = points(200, 10), points(200, 10, seed=1)
    collapsed = X[:1].expand(200, -1)
    for t, misled in ((0.1, False), (3.0, True)):
        assert (
            magnitude_distance_loss(collapsed, Y, t) < magnitude_distance_loss(X, Y, t)
        ) == misled
        normalized = [magnitude_distance_loss(own, Y, t, normalized=True) for own in (X, collapsed)]
        assert normalized[0] < normalized[1]


def test_one_point_beside_one_point():
    X, Y = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 4.0]])
    loss = magnitude_distance_loss(X, Y, 0.5)
    loss.backward()
    # Mag of two points at distance d is 1 + tanh(t d / 2).
    assert loss.item() == pytest.approx(2 * np.tanh(1.25), rel=1e-6)
    slope = 0.5 / np.cosh(1.25) ** 2
    np.testing.assert_allclose(X.grad, [[-0.6 * slope, -0.8 * slope]], rtol=1e-5)


def test_either_side_may_be_trained():
    X, Y = points(5, 3), points(4, 3, seed=1)
    grads = []
    for trained in ((True, True), (True, False), (False, True)):
        leaves = [
            own.clone().requires_grad_(train) for own, train in zip((X, Y), trained, strict=True)
        ]
        magnitude_distance_loss(*leaves, [0.5, 2.0], normalized=True).backward()
        grads.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(grads[1][0], grads[0][0])
    torch.testing.assert_close(grads[2][1], grads[0][1])
    assert grads[1][1] is None


@pytest.mark.filterwarnings("ignore::scipy.linalg.LinAlgWarning")
@pytest.mark.parametrize("d", [2, 30, 784])
@pytest.mark.parametrize("t", [1e-5, 1e-3, 0.1, 10.0])
def test_float32_keeps_zeta_positive_definite(d, t):
    """Points among which some nearly coincide, as float32 numbers and as the same float64 ones."""
    X, Y = points(200, d, shift=3.0).float(), points(150, d, seed=1, shift=3.0).float()
    X[:60] = X[60] + 1e-6 * X[:60]
    Y[:20] = X[:20] + 1e-5
    single, double = X.clone().requires_grad_(), X.double().requires_grad_()
    loss = magnitude_distance_loss(single, Y, t, normalized=True)
    exact = magnitude_distance_loss(double, Y.double(), t, normalized=True)
    loss.backward()
    exact.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)
    error = torch.linalg.vector_norm(single.grad.double() - double.grad)
    assert error < 1e-2 * torch.linalg.vector_norm(double.grad)


def test_accurate_on_ordinary_float32_points():
    X, Y = points(100, 50).float(), points(80, 50, seed=1).float()
    single, double = X.clone().requires_grad_(), X.double().requires_grad_()
    magnitude_distance_loss(single, Y, 0.1).backward()
    magnitude_distance_loss(double, Y.double(), 0.1).backward()
    assert single.grad.dtype == torch.float32
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(place, dtype):
    X, Y = (points(20, 40, seed=seed).float().to(place) for seed in (0, 1))
    X = X.requires_grad_()
    plain = magnitude_distance_loss(X, Y, 0.2)
    (expected,) = torch.autograd.grad(plain, X)
    with torch.autocast(place, dtype=dtype):
        cast = magnitude_distance_loss(X, Y, 0.2)
        (found,) = torch.autograd.grad(cast, X)
    assert cast.item() == plain.item()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_what_a_cast_network_makes(place, dtype):
    X, Y = (points(20, 40, seed=seed).to(dtype).to(place) for seed in (0, 1))
    X = X.requires_grad_()
    loss = magnitude_distance_loss(X, Y, 0.2)
    loss.backward()
    assert (loss.dtype, X.grad.dtype) == (torch.float32, dtype)
    assert loss.item() == pytest.approx(
        magnitude_distance(X.detach().double().cpu().numpy(), Y.double().cpu().numpy(), t=0.2),
        rel=1e-4,
    )


def test_reductions_and_aggregates():
    X, Y, scales = points(6, 2, lead=(3,)), points(5, 2, seed=1, lead=(3,)), [0.3, 1.0]
    table = magnitude_distance_loss(X, Y, scales, aggregate=None, reduction="none")
    assert table.shape == (3, 2)
    for aggregate, reduction in product(["sum", "mean", None], ["sum", "mean", "none"]):
        found = magnitude_distance_loss(X, Y, scales, aggregate=aggregate, reduction=reduction)
        expected = table if aggregate is None else getattr(table, aggregate)(1)
        expected = expected if reduction == "none" else getattr(expected, reduction)(0)
        torch.testing.assert_close(found, expected)
    assert magnitude_distance_loss(X[0], Y[0], 0.3, reduction="none").shape == ()


def test_module_is_the_function_and_follows_new_scales():
    X, Y = points(6, 2), points(5, 2, seed=1)
    criterion = MagnitudeDistanceLoss(0.5, normalized=True)
    assert criterion(X, Y) == magnitude_distance_loss(X, Y, 0.5, normalized=True)
    criterion.t = (0.5, 2.0)
    assert criterion(X, Y) == magnitude_distance_loss(X, Y, [0.5, 2.0], normalized=True)
    twin = copy.deepcopy(criterion)
    assert repr(twin) == repr(criterion)
    assert "t=(0.5, 2.0), normalized=True" in repr(criterion)
    assert not list(criterion.parameters())


def test_gradient_descent_brings_points_to_their_target():
    Y = points(40, 2, seed=1, shift=2.0)
    X = points(40, 2).requires_grad_()
    optimizer = torch.optim.Adam([X], lr=0.05)
    seen = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = magnitude_distance_loss(X, Y, [0.1, 1.0], normalized=True)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.2 * seen[0]


@pytest.mark.parametrize("d", [3, 30])
def test_far_from_the_origin(d):
    X, Y = (1e6 + points(50, d)).float(), (1e6 + points(40, d, seed=1)).float()
    single, double = X.clone().requires_grad_(), X.double().requires_grad_()
    magnitude_distance_loss(single, Y, 0.3).backward()
    magnitude_distance_loss(double, Y.double(), 0.3).backward()
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-25, 1e-22, 1e20, 1e30])
def test_float32_in_any_unit(unit):
    X, Y = points(15, 30, 0), points(12, 30, 1)
    expected = magnitude_distance_loss(X, Y, 0.3)
    leaf = (unit * X).float().requires_grad_()
    loss = magnitude_distance_loss(leaf, (unit * Y).float(), 0.3 / unit)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.abs().max() > 0


def test_a_subset_is_never_at_a_negative_distance():
    for seed in range(40):
        X = points(30, 2, seed)
        for own, whole in ((X, X[:29]), (X[:29], X), (X, X.flip(0))):
            assert magnitude_distance_loss(own, whole, 0.01) >= 0


def test_lost_digits_are_told():
    X, Y = points(5, 3), points(6, 3, 1)
    X[1] = X[0] + 1e-12
    with pytest.warns(LinAlgWarning, match="nearly coincide"):
        magnitude_distance_loss(X, Y, 0.7)


def test_what_is_not_finite_is_named():
    X, Y = points(5, 3), points(4, 3)
    X[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"input holds NaN or infinity in 1 .* in row 3"):
        magnitude_distance_loss(X, Y)
    with pytest.raises(ValueError, match="target holds NaN"):
        magnitude_distance_loss(Y, X)
    with pytest.raises(ValueError, match=r"in row 3 of set \(1,\)"):
        magnitude_distance_loss(torch.stack([points(5, 3), X]), torch.stack([Y, Y]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t": 0.0}, ValueError, "t=0.0"),
        ({"t": "scale"}, ValueError, "MagnitudeCurriculum.from_data"),
        ({"t": []}, ValueError, "t is empty"),
        ({"t": [1.0, -1.0]}, ValueError, "-1.0"),
        ({"t": torch.ones((), requires_grad=True)}, ValueError, "t requires a gradient"),
        ({"input": torch.ones(3, 2).to_sparse()}, TypeError, "dense"),
        ({"input": torch.ones(0, 3, 2), "target": torch.ones(0, 4, 2)}, ValueError, "no points"),
        ({"aggregate": "max"}, ValueError, "aggregate='max'"),
        ({"reduction": "max"}, ValueError, "reduction='max'"),
        ({"input": np.zeros((3, 2))}, TypeError, "input must be a torch.Tensor"),
        ({"input": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "input must hold floating"),
        ({"input": torch.zeros(3)}, ValueError, r"input has shape \(3,\)"),
        ({"input": torch.zeros(0, 2)}, ValueError, "holds no points"),
        ({"input": torch.zeros(3, 3)}, ValueError, r"\(3, 3\) but target has \(4, 2\)"),
        ({"input": torch.zeros(2, 3, 2)}, ValueError, "must agree"),
    ],
)
def test_unusable_arguments_are_named(change, error, message):
    given = {"input": torch.ones(3, 2), "target": torch.zeros(4, 2), **change}
    with pytest.raises(error, match=message):
        magnitude_distance_loss(**given)


def test_what_has_no_factor_is_refused():
    X = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    with pytest.raises(np.linalg.LinAlgError, match="t=1e-18"):
        magnitude_distance_loss(X, X + 0.5, 1e-18)


def test_is_not_differentiated_twice():
    X = points(4, 2).requires_grad_()
    loss = magnitude_distance_loss(X, points(4, 2, 1))
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(loss, X, create_graph=True)
