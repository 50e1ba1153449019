import numpy as np
import pytest
import torch

from skmag import weighting
from skmag._solvers import _exact, _memory, _portfolio

CPU = torch.device("cpu")


def leave(monkeypatch, free):
    monkeypatch.setattr(_memory, "available_memory", lambda device: free)
    for rule in (_exact, _portfolio):
        monkeypatch.setattr(rule, "available_memory", lambda device: free)


@pytest.mark.parametrize(
    ("solver", "needed"),
    [("auto", "80,000"), ("cholesky", "80,000"), ("mixed", "40,000"), ("indefinite", "240,000")],
)
def test_the_error_names_n_the_bytes_and_a_way_out(monkeypatch, solver, needed):
    leave(monkeypatch, 30_000)
    X = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(MemoryError) as caught:
        weighting(np.vstack([X, X]), solver=solver)
    message = str(caught.value)
    for part in (f"needs {needed} bytes", "n=100 distinct points", "30,000 bytes", "solver="):
        assert part in message


def test_auto_takes_half_the_memory_if_that_is_all_there_is(monkeypatch):
    X = np.random.default_rng(0).normal(size=(100, 3))
    expected = weighting(X)
    leave(monkeypatch, 50_000)
    space = weighting(X)
    assert space.solver == "mixed"
    np.testing.assert_allclose(space.weights, expected.weights, rtol=1e-11)


def test_a_line_needs_no_factor(monkeypatch):
    leave(monkeypatch, 0)
    assert weighting(np.arange(9.0)[:, None]).n_points == 9


def test_growing_and_shrinking_ask_for_memory_too(monkeypatch):
    X = np.random.default_rng(0).normal(size=(100, 3))
    space = weighting(X)
    leave(monkeypatch, 70_000)
    with pytest.raises(MemoryError, match="n=102 distinct points"):
        space.extend(X[:2] + 1)
    with pytest.raises(MemoryError, match="n=99 distinct points"):
        space.drop([0])
    assert space.extend(X[:2]).n_points == 100


def test_exact_bytes_and_the_limit():
    assert _memory.exact_bytes(10_000, 8) == 800_000_000
    free = _memory.available_memory(CPU)
    assert free > 0
    _memory.check_memory(1, 8, CPU, "cholesky")
    with pytest.raises(MemoryError, match="n=1,000,000,000 distinct points"):
        _memory.check_memory(10**9, 8 * 10**18, CPU, "cholesky")


def test_the_tightest_limit_counts(monkeypatch):
    names = ("_system_memory", "_container_memory", "_address_space")
    for i, name in enumerate(names):
        monkeypatch.setattr(_memory, name, lambda i=i: 10.0 + i)
    assert _memory.available_memory(CPU) == 10.0
    monkeypatch.setattr(_memory, "_address_space", lambda: 3.0)
    assert _memory.available_memory(CPU) == 3.0


@pytest.mark.parametrize("name", ["_system_memory", "_container_memory", "_address_space"])
def test_every_limit_is_a_number_of_bytes_or_infinite(name):
    value = getattr(_memory, name)()
    assert isinstance(value, float)
    assert value >= 0


def test_a_limit_on_the_address_space_is_seen():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    room = 2**46
    if hard != resource.RLIM_INFINITY:
        pytest.skip("the address space is limited here already")
    try:
        resource.setrlimit(resource.RLIMIT_AS, (room, hard))
        assert 0 < _memory._address_space() < room
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    ("solver", "free", "halved"),
    [
        ("cholesky", 50_000, True),
        ("cholesky", 30_000, False),
        ("mixed", 30_000, False),
        ("indefinite", 50_000, False),
    ],
)
def test_the_error_proposes_what_fits(monkeypatch, solver, free, halved):
    leave(monkeypatch, free)
    X = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(MemoryError, match=r"Use solver='cg' \(or 'sparse' for few") as caught:
        weighting(X, solver=solver)
    assert ("'mixed', which takes half" in str(caught.value)) == halved
    assert weighting(X, solver="cg", solver_params={"preconditioner": "none"}).converged
