import math
from contextlib import nullcontext
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import skmag
from skmag.nn import line_magnitude

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PLACES = ["cpu", pytest.param("cuda", marks=CUDA)]
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def numbers(*shape, seed=0, dtype=torch.float64, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.tensor(scale * rng.normal(size=shape), dtype=dtype)


def gradient(values, t=1.0):
    values = values.clone().requires_grad_()
    line_magnitude(values, t).backward()
    return values.grad


def test_magnitude_of_one_feature():
    for t in (0.01, 1.0, 30.0):
        values = numbers(4, 5, 3)
        expected = skmag.magnitude(values.reshape(-1, 1).numpy(), t=t)
        assert float(line_magnitude(values, t)) == pytest.approx(expected, rel=1e-13)


def test_extremes_and_one_point():
    assert line_magnitude(torch.tensor([7.0])).item() == 1.0
    assert gradient(torch.tensor([7.0, 7.0, 7.0])).tolist() == [0.0] * 3
    ends = torch.tensor([-1.7e308, 1.7e308], dtype=torch.float64)
    assert line_magnitude(ends).item() == 2.0
    assert gradient(ends).tolist() == [0.0, 0.0]
    assert line_magnitude(torch.tensor([-0.0, 0.0])).item() == 1.0


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(1,), (2,), (7,), (3, 4), (2, 3, 2)]),
    t=st.floats(0.01, 20),
    n_pairs=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_gradcheck(shape, t, n_pairs, seed):
    values = numbers(*shape, seed=seed).round(decimals=2)
    flat = values.view(-1)
    # Entries two grid steps apart, so that finite differences cross no kink but those of pairs.
    flat += 0.02 * torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    flat[:] = 0.02 * (flat / 0.02).round()
    distinct = torch.unique(flat)
    flat[: len(distinct)], flat[len(distinct) :] = (
        distinct,
        9 + torch.arange(len(flat) - len(distinct)),
    )
    for pair in range(min(n_pairs, len(flat) // 2)):
        flat[2 * pair] = flat[2 * pair + 1]
    assert torch.autograd.gradcheck(
        lambda x: line_magnitude(x, t), values.requires_grad_(), eps=1e-6, atol=1e-6, rtol=1e-5
    )


def test_copies_share_the_derivative_of_their_point():
    values = numbers(6)
    alone = gradient(values, 2.0)
    for n_copies in (2, 5):
        copied = torch.cat([values, values[2:3].expand(n_copies - 1)])
        order = torch.randperm(len(copied), generator=torch.Generator().manual_seed(n_copies))
        found = torch.empty_like(copied)
        found[order] = gradient(copied[order], 2.0)
        shares = alone.clone()
        shares[2] /= n_copies
        expected = torch.cat([shares, shares[2:3].expand(n_copies - 1)])
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 20.0, 200.0])
def test_every_digit_of_the_derivative(scale):
    # Among close points both terms are nearly one; among far points both underflow in 1 - tanh^2.
    values = numbers(9, scale=scale)
    order = values.argsort()
    found = gradient(values)[order]
    with mpmath.workdps(60):
        x = [mpmath.mpf(float(v)) for v in values[order]]
        slope = [mpmath.sech((b - a) / 2) ** 2 / 2 for a, b in pairwise(x)]
        slope = [mpmath.mpf(0), *slope, mpmath.mpf(0)]
        expected = [float(slope[i] - slope[i + 1]) for i in range(9)]
    # Gaps are rounded; exp(-t gap) passes t gap times that on.
    np.testing.assert_allclose(found.numpy(), expected, rtol=4e-15 * max(1.0, scale), atol=0)
    assert found.abs().min() > 0


def test_float32_is_computed_in_float64():
    values = numbers(300, dtype=torch.float32)
    exact = values.double()
    assert line_magnitude(values, 5.0) == line_magnitude(exact, 5.0).float()
    assert torch.equal(gradient(values, 5.0), gradient(exact, 5.0).float())


@pytest.mark.parametrize("t", [5e-324, 9.5e307, 1.7e308])
def test_extreme_scales(t):
    assert gradient(torch.tensor([0.0, 1.0], dtype=torch.float64), t).isfinite().all()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("autocast", [False, True])
def test_types_and_places(dtype, place, autocast):
    values = numbers(50, dtype=dtype).to(place)
    # In half precision there are copies.
    exact = values.double().cpu()
    expected, slopes = line_magnitude(exact, 3.0), gradient(exact, 3.0)
    with torch.autocast(place, dtype=torch.bfloat16) if autocast else nullcontext():
        found, slope = line_magnitude(values, 3.0), gradient(values, 3.0)
    result = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    assert (found.dtype, slope.dtype) == (result, dtype)
    assert (found.device, slope.device) == (values.device, values.device)
    torch.testing.assert_close(found.cpu(), expected.to(result), rtol=1e-6, atol=0)
    torch.testing.assert_close(slope.cpu(), slopes.to(dtype))


def test_small_slopes_survive_half_precision():
    values = (torch.arange(8) * 20.0).to(torch.float16).requires_grad_()
    (2.0**16 * line_magnitude(values)).backward()
    expected = 2.0**16 * gradient(values.detach().double())
    assert expected[0].abs() > 1e-5 > expected[0].abs() / 2.0**16
    torch.testing.assert_close(values.grad, expected.half())


def test_a_million_numbers():
    values = numbers(1000, 1000, dtype=torch.float32)
    expected = 1 + np.tanh(np.diff(np.sort(values.double().numpy(), axis=None)) / 2).sum()
    assert line_magnitude(values).item() == pytest.approx(expected, rel=1e-6)
    slopes = gradient(values).double()
    assert slopes.sum().item() == pytest.approx(0, abs=1e-6)
    assert slopes.view(-1)[values.argmax()].item() == pytest.approx(0.5, rel=0.1)


def test_second_derivative_is_refused():
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        line_magnitude(numbers(5).requires_grad_()).backward(create_graph=True)


@pytest.mark.parametrize(
    ("values", "t", "error", "message"),
    [
        (torch.empty(0), 1.0, ValueError, "values is empty"),
        (torch.tensor([0.0, math.nan]), 1.0, ValueError, "values contains NaN"),
        (torch.tensor([0.0, -math.inf]), 1.0, ValueError, "values contains NaN or infinite"),
        (torch.tensor([0, 1]), 1.0, TypeError, "values .* torch.int64"),
        (torch.tensor([1j]), 1.0, TypeError, "got torch.complex64"),
        ([0.0, 1.0], 1.0, TypeError, "values .* list"),
        (torch.zeros(2), 0.0, ValueError, "t=0.0"),
        (torch.zeros(2), torch.ones((), requires_grad=True), ValueError, r"pass t\.detach\(\)"),
        (torch.zeros(2), "scale", ValueError, "t='scale'"),
        (torch.zeros(2), math.inf, ValueError, "t=inf"),
    ],
)
def test_bad_values(values, t, error, message):
    with pytest.raises(error, match=message):
        line_magnitude(values, t)


def test_at_small_t_only_the_ends_are_pushed():
    values = torch.linspace(-0.5, 0.5, 10_001, dtype=torch.float64)
    assert line_magnitude(values).item() == pytest.approx(1.5, rel=1e-8)
    slopes = gradient(values)
    assert slopes[[0, -1]].tolist() == pytest.approx([-0.5, 0.5], rel=1e-8)
    assert slopes[1:-1].abs().max() < 1e-12
