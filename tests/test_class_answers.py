import numpy as np
import pytest
import torch
from left_out import criterion_values, without
from scipy.spatial.distance import cdist, pdist

from skmag._class_answers import ClassAnswers, class_similarities, sample_median
from skmag._metrics import resolve_metric

CPU = torch.device("cpu")
TS = (0.5, 1.0, 2.0)


def labelled(seed=0, n=30):
    rng = np.random.default_rng(seed)
    X, codes = rng.normal(size=(n, 3)), rng.permutation(np.arange(n) % 3)
    # A copy within a class, far from the point it repeats.
    first = np.flatnonzero(codes == 1)
    X[first[-1]] = X[first[0]]
    return X, codes, [np.flatnonzero(codes == c) for c in range(3)]


def solved(X, rows, metric="euclidean", n_jobs=None):
    metric = resolve_metric(metric, None)
    similarities = class_similarities(torch.from_numpy(X), rows, metric)
    return ClassAnswers.of(similarities, rows, TS, "auto", CPU, n_jobs)


@pytest.fixture(scope="module", params=["euclidean", "precomputed"])
def case(request):
    X, codes, rows = labelled()
    data = X if request.param == "euclidean" else cdist(X, X)
    return X, codes, rows, torch.from_numpy(data), solved(data, rows, request.param)


def test_each_class_has_its_own_points_and_scale(case):
    X, _, rows, _, answers = case
    for own, t, part in zip(rows, TS, answers.parts, strict=True):
        assert part.similarity.t == t
        distinct = np.unique(X[own], axis=0)
        assert len(part.weights) == len(distinct)
        assert part.magnitude == pytest.approx(
            np.linalg.inv(np.exp(-t * cdist(distinct, distinct))).sum(), rel=1e-12
        )


def test_classes_are_mapped_in_order(case):
    answers = case[-1]
    assert answers.map(lambda c, part: (c, part.similarity.t)) == list(enumerate(TS))
    assert answers.map(lambda c, part, a: c * a, 10, n_jobs=2) == [0, 10, 20]


def test_queries_are_the_columns_of_a_class_if_precomputed(case):
    _, _, rows, data, answers = case
    for c, own in enumerate(rows):
        found = answers.queries(c, data)
        expected = data[:, own] if answers.precomputed else data
        assert torch.equal(found, expected)


@pytest.mark.parametrize("chosen", [None, [0, 3, 4, 17, 28, 29]])
def test_training_rows_are_left_out_of_their_own_class_with_their_copies(case, chosen):
    X, codes, rows, data, answers = case
    wanted = np.arange(len(X)) if chosen is None else np.array(chosen)
    for c, t in enumerate(TS):
        probe = answers.training_probe(c, data, wanted)
        for at, i in enumerate(wanted):
            own = X[rows[c]]
            others = without(own, X[i]) if codes[i] == c else own
            expected = criterion_values(others, X[i], t)
            assert float(probe.residual[at]) == pytest.approx(expected["residual"], rel=1e-9)
            assert float(probe.potential[at]) == pytest.approx(expected["potential"], rel=1e-9)
            assert float(probe.explained[at]) == pytest.approx(
                1 - expected["residual"], rel=1e-9, abs=1e-14
            )


def test_asking_about_training_rows_changes_no_answer(case):
    data, answers = case[3], case[4]
    every = np.arange(len(data))
    before = [part.weights.clone() for part in answers.parts]
    first = [answers.training_probe(c, data, every).residual for c in range(3)]
    again = [answers.training_probe(c, data, every).residual for c in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    after = [part.weights for part in answers.parts]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_parallel_classes_are_the_same_classes():
    X, _, rows = labelled()
    for one, two in zip(solved(X, rows).parts, solved(X, rows, n_jobs=2).parts, strict=True):
        assert torch.equal(one.weights, two.weights)
        assert one.magnitude == two.magnitude


def test_median_of_distinct_points():
    X = np.random.default_rng(0).normal(size=(42, 3))
    doubled = np.vstack([X, X[:7], X[:3]])
    for metric, table in (("euclidean", doubled), ("precomputed", cdist(doubled, doubled))):
        found = sample_median(torch.from_numpy(table), resolve_metric(metric, None))
        assert found == pytest.approx(np.median(pdist(X)), rel=1e-12)


def test_median_of_many_points_is_that_of_a_fixed_share():
    X = np.random.default_rng(0).normal(size=(1500, 2))
    metric, table = resolve_metric("euclidean", None), resolve_metric("precomputed", None)
    found = sample_median(torch.from_numpy(X), metric)
    assert found == sample_median(torch.from_numpy(X), metric)
    assert found == pytest.approx(np.median(pdist(X)), rel=0.02)
    assert sample_median(torch.from_numpy(cdist(X, X)), table) == pytest.approx(found, rel=1e-12)
