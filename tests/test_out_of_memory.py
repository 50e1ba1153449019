"""Running out of memory on purpose: the right answer or an error that says what fits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import peak_memory
from sklearn import config_context

from skmag import MagnitudeClassifier, MagnitudeOutlierDetector, weighting
from skmag._out_of_memory import named_memory_errors, names_memory, refused_bytes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the limits are those of Linux"
)

# The limits count from what the process has mapped when all libraries have started their threads.
LIMITED = """
import json, resource, warnings
import numpy as np
import sklearn
from pathlib import Path
from skmag import *
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
def points(n, n_features=3):
    return rng.normal(size=(n, n_features))
def sides(X):
    return (X[:, 0] > 0).astype(int)
def asked():
    for asked, room in json.loads(CASES):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = mapped + room * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            yield eval(asked)
        except MemoryError as error:
            yield f"MemoryError: {error}"
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
small = points(300)
weighting(small).residual(small)
MagnitudeClassifier(solver="sparse").fit(small, sides(small)).predict(small)
MagnitudeOutlierDetector().fit(small)
sklearn.set_config(working_memory=16)
PREPARED
print(json.dumps(list(asked())))
"""


def limited(cases, prepared=""):
    """What expressions give in a process, each with so many megabytes of room."""
    code = LIMITED.replace("CASES", repr(json.dumps(cases))).replace("PREPARED", prepared)
    return json.loads(answered(code))


def answered(code):
    """What a program prints in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_factor_that_does_not_fit_is_refused():
    cases = [
        "weighting(points(6000), solver='cholesky').magnitude",
        "MagnitudeClassifier(solver='cholesky').fit(points(6000), np.arange(6000) > 2) and 1",
        "MagnitudeOutlierDetector(criterion='gain', solver='cholesky').fit(points(6000)) and 1",
        "magnitude_distance(points(3000), points(3000))",
        "weighting(points(6000), metric='canberra').magnitude",
    ]
    for message in limited([(case, 150) for case in cases]):
        assert isinstance(message, str)
        assert message.startswith("MemoryError: ")
        assert re.search("n=[3-6],[0-9]{3} ", message)
        assert "bytes" in message or "iB" in message
        assert re.search("[Uu]se |fewer points", message)


def test_what_needs_no_factor_fits():
    prepared = """
X = points(12_000)
y = sides(X)
far = points(20_000)
far[:5] += 40
def bounds(found):
    return [found.lower, found.magnitude, found.upper]
"""
    cases = [
        # Two factors of 6,000 points would take 576 megabytes, and one of 20,000 takes 3,200.
        ("float((MagnitudeClassifier().fit(X, y).predict(X[:500]) == y[:500]).mean())", 250),
        ("bounds(weighting(X[:6000], solver='cg', tol=1e-3))", 250),
        (
            "int(MagnitudeClassifier(solver='sparse', criterion='percentile', t=10.0, tol=0.1, "
            "null_label=-1, null_alpha=0.1).fit(X[:5000], y[:5000]).predict(X[:5])[0] >= -1)",
            250,
        ),
        ("MagnitudeOutlierDetector(random_state=0).fit(far).scores_.argsort()[:5].tolist()", 250),
        (
            "MagnitudeOutlierDetector(novelty=True, metric='euclidean').fit(far[5:])"
            ".predict(far[:5]).tolist()",
            250,
        ),
    ]
    accuracy, (lower, value, upper), percentile, farthest, novel = limited(cases, prepared)
    assert accuracy == 1.0
    assert percentile == 1
    assert lower <= value <= upper <= lower * 1.002
    assert sorted(farthest) == [0, 1, 2, 3, 4]
    assert novel == [-1] * 5


@pytest.mark.parametrize("solver", ["cholesky", "sparse", "cg"])
@pytest.mark.parametrize("criterion", ["residual", "gain"])
def test_a_small_working_memory_changes_nothing(solver, criterion):
    rng = np.random.default_rng(0)
    X, Z = rng.normal(size=(300, 3)), rng.normal(size=(40, 3))
    y = X[:, 0] > 0

    def answers():
        tol = {"tol": 1e-2}
        model = MagnitudeClassifier(criterion=criterion, solver=solver, **tol).fit(X, y)
        detector = MagnitudeOutlierDetector(
            criterion=criterion, novelty=True, metric="euclidean", solver=solver, **tol
        ).fit(X)
        space = weighting(X, solver=solver, **tol)
        return [
            model.decision_function(Z),
            detector.score_samples(Z),
            detector.scores_,
            space.gain(Z),
            space.leave_one_out().residual,
        ]

    expected = answers()
    with config_context(working_memory=0.01):
        found = answers()
    for a, b in zip(found, expected, strict=True):
        # Blocks add up in another order.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


PEAK = """
import numpy as np
import sklearn
from skmag import MagnitudeClassifier, MagnitudeOutlierDetector
rng = np.random.default_rng(0)
X, small = rng.normal(size=(100_000, 10)), rng.normal(size=(2000, 10))
sklearn.set_config(working_memory=32)
def exact(X):
    MagnitudeClassifier(solver="cholesky").fit(X, X[:, 0] > 0).predict(small)
def near(X):
    MagnitudeClassifier(solver="sparse").fit(X, X[:, 0] > 0).predict(small)
def bagged(X):
    MagnitudeOutlierDetector(random_state=0).fit(X)
"""
ROW, WORKING = 80, 32 * 2**20


@pytest.mark.parametrize(
    ("run", "n", "bound"),
    [
        ("bagged", 100_000, 4 * ROW * 100_000 + 100 * 100_000 + 4 * WORKING),
        ("near", 100_000, 8 * ROW * 100_000 + 2 * WORKING),
        ("exact", 5000, 2 * 8 * 2550**2 + 8 * ROW * 5000 + 2 * WORKING),
    ],
)
def test_peak_memory_is_what_the_docstrings_say(run, n, bound):
    peak = peak_memory(f"{PEAK}{run}(small[:300])", f"{run}(X[:{n}])")
    assert 0.1 * bound < peak < bound


class Space:
    """What the decorator asks of a similarity."""

    t = 1.0
    device = torch.device("cpu")

    def __len__(self):
        return 1234


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "2.00 GiB"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
            ),
            "8 bytes",
        ),
        (MemoryError("Unable to allocate 7.45 GiB for an array with shape (31623, 31623)"), "7.45"),
        (MemoryError(), "more memory"),
    ],
)
def test_an_allocation_that_fails_names_what_fits(error, said):
    @names_memory
    def fails(space):
        raise error

    with pytest.raises(MemoryError, match=r"n=1,234 distinct points.*Use fewer points") as caught:
        fails(Space())
    assert said in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), MemoryError("n=3 is much")])
def test_other_errors_are_left_alone(error):
    assert refused_bytes(error) is None

    @names_memory
    def fails(space):
        raise error

    with pytest.raises(type(error)) as caught:
        fails(Space())
    assert caught.value is error


TOO_MUCH = 2**50


@pytest.mark.parametrize("allocate", [np.empty, torch.empty])
def test_failed_allocations_name_n_the_bytes_and_a_way_out(allocate):
    with (
        pytest.raises(
            MemoryError, match=r"n=1,234 rows needs \d[\d.]* ?\w+ more; take less"
        ) as caught,
        named_memory_errors(1234, "take less"),
    ):
        allocate(TOO_MUCH, dtype=np.float64 if allocate is np.empty else torch.float64)
    assert caught.value.__cause__ is not None


def test_an_accelerator_without_memory_is_told_of():
    with pytest.raises(MemoryError, match="n=9 rows"), named_memory_errors(9, "take less"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_errors_that_name_n_go_through():
    error = MemoryError("needs 8 bytes for n=1 points")
    with pytest.raises(MemoryError) as caught, named_memory_errors(9, "take less"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("t=-1")])
def test_other_errors_go_through(error):
    with pytest.raises(type(error)) as caught, named_memory_errors(9, "take less"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    ],
)
def test_libraries_of_a_card_are_understood(text):
    message = "n=9 rows needs more memory than is free; take less"
    with pytest.raises(MemoryError, match=message), named_memory_errors(9, "take less"):
        raise RuntimeError(text)
    assert refused_bytes(RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR")) is None
