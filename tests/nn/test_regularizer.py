import copy
import math

import numpy as np
import pytest
import torch

from skmag.nn import MagnitudeRegularizer, line_magnitude

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PLACES = ["cpu", pytest.param("cuda", marks=CUDA)]


def numbers(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).to(
        torch.float64
    )


def weights(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def gradient(values, t=1.0):
    values = values.clone().requires_grad_()
    line_magnitude(values, t).backward()
    return values.grad


def fitted_loss(module, seed=1):
    X, y = numbers(20, 4, seed=seed), numbers(20, 1, seed=seed + 1)
    return torch.nn.functional.mse_loss(module(X), y)


def test_penalty_is_of_all_weights_as_one_set():
    module = network()
    found = MagnitudeRegularizer(0.3, t=2.0)(module)
    assert found.item() == pytest.approx(0.3 * line_magnitude(weights(module), 2.0).item())
    module[2].requires_grad_(False)
    found = MagnitudeRegularizer(t=2.0)
    assert found(module).item() == line_magnitude(weights(module[0]), 2.0).item()
    assert found.magnitude(module) == found(module).item()
    assert not list(found.parameters())
    assert not found.state_dict()


def test_patterns_choose_parameters():
    module = network()
    chosen = torch.cat([module[i].weight.detach().reshape(-1) for i in (0, 2)])
    found = MagnitudeRegularizer(parameters=["0.w*", "2.weight"])
    assert found(module).item() == line_magnitude(chosen).item()
    found(module).backward()
    assert module[0].bias.grad is None
    assert module[0].weight.grad is not None
    module[2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"'2\.weight'.*'0\.weight', '0\.bias'"):
        found(module)


def test_named_tensors_take_the_place_of_a_module():
    module = network()
    regularizer = MagnitudeRegularizer(2.0, parameters=["*.weight"])
    expected = regularizer(module).item()
    held = {name: p.detach() for name, p in module.named_parameters()}
    assert regularizer(held).item() == expected
    assert regularizer(module.named_parameters()).item() == expected
    moved = {name: (2 * p).requires_grad_() for name, p in held.items()}
    regularizer(moved).backward()
    assert moved["0.bias"].grad is None
    chosen = torch.cat([2 * held[f"{i}.weight"].reshape(-1) for i in (0, 2)])
    torch.testing.assert_close(moved["0.weight"].grad.reshape(-1), 2 * gradient(chosen)[:24])


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=4, line_search_fn="strong_wolfe"),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("keyword", [False, True])
def test_hook_equals_term(make, keyword):
    module = network()
    other = copy.deepcopy(module)
    regularizer = MagnitudeRegularizer(0.5, t=3.0)
    first, second = make(module.parameters()), make(other.parameters())
    handle = regularizer.attach(second, other)
    for _ in range(4):

        def with_term():
            first.zero_grad()
            loss = fitted_loss(module) + regularizer(module)
            loss.backward()
            return loss

        def without():
            second.zero_grad()
            loss = fitted_loss(other)
            loss.backward()
            return loss

        if isinstance(first, torch.optim.LBFGS):
            expected = first.step(with_term)
            found = second.step(closure=without) if keyword else second.step(without)
            torch.testing.assert_close(found, expected)
        else:
            with_term()
            without()
            first.step()
            second.step()
        torch.testing.assert_close(weights(other), weights(module), rtol=1e-12, atol=1e-13)
    handle.remove()
    before = fitted_loss(other)
    second.zero_grad()
    before.backward()
    slope = other[0].weight.grad.clone()
    second.step(lambda: before.detach())
    torch.testing.assert_close(other[0].weight.grad, slope, rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES)
def test_hook_where_the_loss_has_no_gradient(place):
    module = network().to(place)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    MagnitudeRegularizer(0.1).attach(optimizer, module)
    before = weights(module)
    optimizer.step()
    torch.testing.assert_close(weights(module), before - 0.1 * gradient(before))


def test_hook_changes_only_what_the_optimizer_holds():
    module = network()
    optimizer = torch.optim.SGD(module[0].parameters(), lr=1.0)
    MagnitudeRegularizer(0.1).attach(optimizer, module)
    before, slopes = weights(module), gradient(weights(module))
    optimizer.step()
    assert module[2].weight.grad is None
    n = before.numel() - 7
    torch.testing.assert_close(weights(module)[:n], before[:n] - 0.1 * slopes[:n])
    torch.testing.assert_close(weights(module)[n:], before[n:])
    with pytest.raises(ValueError, match="optimizer holds none"):
        MagnitudeRegularizer(parameters=["2.*"]).attach(optimizer, module)


def test_hook_within_no_grad():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    MagnitudeRegularizer(0.1).attach(optimizer, module)
    before = weights(module)
    with torch.no_grad():
        optimizer.step()
    torch.testing.assert_close(weights(module), before - 0.1 * gradient(before))


def test_hook_adds_to_sparse_gradients():
    tables = [torch.nn.Embedding(6, 3, sparse=True, _weight=numbers(6, 3)) for _ in range(2)]
    regularizer = MagnitudeRegularizer(0.5)
    optimizers = [torch.optim.SGD(table.parameters(), lr=0.1) for table in tables]
    regularizer.attach(optimizers[1], tables[1])
    for table, optimizer, penalty in zip(
        tables, optimizers, (regularizer, lambda _: 0.0), strict=True
    ):
        for rows in ([0, 2, 2], [5, 1]):
            optimizer.zero_grad()
            (table(torch.tensor(rows)).square().sum() + penalty(table)).backward()
            optimizer.step()
    torch.testing.assert_close(tables[1].weight, tables[0].weight)


def test_hook_with_a_closure_that_returns_nothing():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    MagnitudeRegularizer(0.1).attach(optimizer, module)
    before = weights(module)
    assert optimizer.step(lambda: None) is None
    torch.testing.assert_close(weights(module), before - 0.1 * gradient(before))


def test_hook_when_parameters_were_frozen_or_replaced():
    module = network()
    optimizer = torch.optim.SGD(module[0].parameters(), lr=1.0)
    MagnitudeRegularizer(0.1).attach(optimizer, module)
    module[0].requires_grad_(False)
    with pytest.raises(ValueError, match="optimizer holds none"):
        optimizer.step()
    module[0] = torch.nn.Linear(4, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="optimizer holds none"):
        optimizer.step()


def test_hook_wants_an_optimizer_and_a_module():
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    with pytest.raises(TypeError, match=r"optimizer must be .*Optimizer, got Sequential"):
        MagnitudeRegularizer().attach(module, optimizer)
    with pytest.raises(TypeError, match=r"module must be .*Module, got SGD"):
        MagnitudeRegularizer().attach(optimizer, optimizer)


def test_hook_under_a_loss_scaler():
    module = network().float()
    other = copy.deepcopy(module)
    regularizer = MagnitudeRegularizer(0.5)
    optimizers = [
        torch.optim.Adam(m.parameters(), lr=0.01, fused=True, eps=1e-2) for m in (module, other)
    ]
    regularizer.attach(optimizers[1], other)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10) for _ in range(2)]
    X, y = numbers(20, 4).float(), numbers(20, 1).float()
    for _ in range(2):
        for m, optimizer, scaler, penalty in zip(
            (module, other), optimizers, scalers, (regularizer, lambda _: 0.0), strict=True
        ):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(m(X), y) + penalty(m)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    torch.testing.assert_close(weights(other), weights(module), rtol=1e-6, atol=1e-7)


def test_strength_may_change_between_steps():
    module = network()
    regularizer = MagnitudeRegularizer(1.0)
    once = regularizer(module).item()
    regularizer.strength = 4.0
    assert regularizer(module).item() == 4 * once
    regularizer.strength = -3
    with pytest.raises(ValueError, match="strength=-3"):
        regularizer(module)


@pytest.mark.parametrize("place", PLACES)
def test_sample_is_a_lower_bound_with_the_ends(place):
    module = network().to(place)
    values = weights(module)
    ends = torch.stack([values.min(), values.max()])
    whole = line_magnitude(values, 5.0).item()
    generator = torch.Generator().manual_seed(0)
    regularizer = MagnitudeRegularizer(t=5.0, n_sampled=4, generator=generator)
    found = [regularizer(module).item() for _ in range(30)]
    assert line_magnitude(ends, 5.0).item() <= min(found) < max(found) <= whole
    assert regularizer.magnitude(module) == whole
    generator.manual_seed(0)
    assert [regularizer(module).item() for _ in range(30)] == found
    torch.manual_seed(3)
    other = MagnitudeRegularizer(t=5.0, n_sampled=4)
    drawn = other(module)
    torch.manual_seed(3)
    assert other(module).item() == drawn.item()
    drawn.backward()
    slopes = torch.cat([p.grad.reshape(-1) for p in module.parameters()])
    assert 2 <= int((slopes != 0).sum()) <= 6
    assert slopes[values.argmin()] < 0 < slopes[values.argmax()]


def test_sample_as_large_as_the_set_is_the_set():
    module = network()
    n = len(weights(module))
    expected = MagnitudeRegularizer()(module).item()
    for n_sampled in (n - 2, n, 10 * n):
        assert MagnitudeRegularizer(n_sampled=n_sampled)(module).item() == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strength": -1.0}, ValueError, "strength=-1.0"),
        ({"strength": math.nan}, ValueError, "strength=nan"),
        ({"strength": "1"}, TypeError, "strength='1'"),
        ({"t": -2.0}, ValueError, "t=-2.0"),
        ({"parameters": "*.weight"}, TypeError, r"parameters='\*\.weight'"),
        ({"n_sampled": 0}, ValueError, "n_sampled=0"),
        ({"n_sampled": 2.5}, ValueError, "n_sampled=2.5"),
        ({"generator": 3}, TypeError, "generator=3"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        MagnitudeRegularizer(**arguments)


def test_bad_modules():
    with pytest.raises(ValueError, match="module has no parameter"):
        MagnitudeRegularizer()(torch.nn.ReLU())
    with pytest.raises(TypeError, match=r"count must be .*torch\.int64; name the others"):
        MagnitudeRegularizer()({"count": torch.arange(3)})
    phases = torch.nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"weight must be .*torch\.complex64; name the others"):
        MagnitudeRegularizer()(phases)
    module = network()
    with torch.no_grad():
        module[2].weight[0, 3] = math.nan
    for regularizer in (MagnitudeRegularizer(), MagnitudeRegularizer(n_sampled=1)):
        with pytest.raises(ValueError, match=r"parameter '2\.weight' contains NaN"):
            regularizer(module)


@pytest.mark.parametrize(
    "module",
    [
        list(torch.nn.Linear(5, 2, bias=False).parameters()),
        torch.randn(3, 2, 5),
        torch.tensor(1.0),
        None,
        "weight",
        {"weight": 1.0},
        {0: torch.randn(2)},
        ["ab", "cd"],
    ],
)
def test_what_has_no_names(module):
    with pytest.raises(TypeError, match=r"module must be .*named_parameters\(\)"):
        MagnitudeRegularizer()(module)


def test_representation():
    assert repr(MagnitudeRegularizer(0.5)) == "MagnitudeRegularizer(strength=0.5)"
    full = MagnitudeRegularizer(2, t=3, parameters=["*.weight"], n_sampled=10)
    expected = "MagnitudeRegularizer(strength=2.0, t=3.0, parameters=['*.weight'], n_sampled=10)"
    assert repr(full) == expected
