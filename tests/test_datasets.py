import gzip

import numpy as np
import pytest

from skmag.datasets import available, load, make_checkerboard

# File, what it holds, and the points and classes that are read from it.
FILES = {
    "cleveland": (
        "cleveland_heart.csv",
        "63.0,1.0,6.0,0\n67.0,0.0,?,2\n41.0,0.0,3.0,3\n",
        [[63.0, 1.0, 6.0], [41.0, 0.0, 3.0]],
        [0, 1],
    ),
    "galaxy_dim": ("galaxy_dim.csv", "0.5,2e-1,1\n0.25,3,0\n", [[0.5, 0.2], [0.25, 3]], [1, 0]),
    "housing": (
        "boston_housing.csv",
        "1,2,24.0\n3,4,21.6\n5,6,30\n",
        [[1, 2], [3, 4], [5, 6]],
        [0, 0, 1],
    ),
    "ionosphere": (
        "ionosphere.csv",
        "1,0,0.5,g\n0,-1,0.25,b\n",
        [[1, 0, 0.5], [0, -1, 0.25]],
        [1, 0],
    ),
    "tic_tac_toe": (
        "tic_tac_toe.csv",
        "x,o,b,positive\nb,b,o,negative\n",
        [[2, 1, 0], [0, 0, 1]],
        [1, 0],
    ),
}
SHAPES = {
    "cleveland": (297, 13, 2),
    "galaxy_dim": (4192, 14, 2),
    "housing": (506, 13, 2),
    "ionosphere": (351, 34, 2),
    "mnist": (60_000, 784, 10),
    "tic_tac_toe": (958, 9, 2),
    "annthyroid": (7200, 6, 2),
    "breastw": (683, 9, 2),
    "mammography": (11183, 6, 2),
    "pima": (768, 8, 2),
    "satellite": (6435, 36, 2),
    "shuttle": (49097, 9, 2),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that SKMAG_DATA names, with a small file for each set but mnist."""
    for name, text, _, _ in FILES.values():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("SKMAG_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("n_tiles", [2, 4])
def test_checkerboard(n_tiles):
    X, y = make_checkerboard(500, n_tiles, random_state=3)
    assert X.shape == (500, 2)
    assert (X.min() >= 0) & (X.max() <= 1)
    # Neighbouring tiles differ in colour, both along the rows and along the columns.
    i, j = np.floor(X * n_tiles).astype(int).T
    assert y.tolist() == ((i % 2) != (j % 2)).astype(int).tolist()
    assert 0.3 < y.mean() < 0.7


def test_the_draw_of_a_checkerboard_follows_its_seed():
    X, _ = make_checkerboard()
    assert X.shape == (1000, 2)
    np.testing.assert_array_equal(make_checkerboard(random_state=0)[0], X)
    assert not np.array_equal(make_checkerboard(random_state=1)[0], X)
    state = np.random.RandomState(0)
    np.testing.assert_array_equal(make_checkerboard(random_state=state)[0], X)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_set_is_read_from_the_folder(folder, name):
    _, _, points, classes = FILES[name]
    X, y = load(name)
    assert X.dtype == float
    assert X.tolist() == points
    assert y.dtype.kind == "i"
    assert y.tolist() == classes


def test_mnist_is_read_from_its_two_files(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 784)).astype(np.uint8)
    digits = np.array([5, 0, 9], dtype=np.uint8)
    (folder / "mnist").mkdir()
    for file, header, values in [
        ("train-images-idx3-ubyte.gz", bytes(16), pixels),
        ("train-labels-idx1-ubyte.gz", bytes(8), digits),
    ]:
        (folder / "mnist" / file).write_bytes(gzip.compress(header + values.tobytes()))
    assert available() == sorted([*FILES, "mnist"])
    X, y = load("mnist")
    assert X.tolist() == pixels.astype(float).tolist()
    assert y.tolist() == [5, 0, 9]


def test_a_set_of_adbench_is_read_as_floats(folder):
    (folder / "adbench").mkdir()
    bytes_ = np.array([[1, 200], [3, 4]], dtype=np.uint8)
    np.savez(folder / "adbench" / "30_satellite.npz", X=bytes_, y=np.array([0, 1]))
    X, y = load("satellite")
    assert X.dtype == float
    assert X.tolist() == [[1.0, 200.0], [3.0, 4.0]]
    assert y.tolist() == [0, 1]


def test_what_is_available(folder):
    assert available() == sorted(FILES)
    (folder / "ionosphere.csv").unlink()
    assert available() == sorted(set(FILES) - {"ionosphere"})
    with pytest.raises(FileNotFoundError, match=r"ionosphere is read from ionosphere\.csv"):
        load("ionosphere")


@pytest.mark.parametrize("value", [None, "", "no such folder"])
def test_without_a_folder_nothing_is_available(monkeypatch, value):
    monkeypatch.delenv("SKMAG_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("SKMAG_DATA", value)
    assert available() == []
    with pytest.raises(FileNotFoundError, match="SKMAG_DATA"):
        load("cleveland")


def test_unknown_sets_are_named():
    with pytest.raises(ValueError, match=r"name='iris' is unknown; use one of .*'ionosphere'"):
        load("iris")


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_papers_data(name):
    if name not in available():
        pytest.skip(f"SKMAG_DATA names no folder with {name}")
    X, y = load(name)
    assert (*X.shape, len(set(y.tolist()))) == SHAPES[name]
    assert np.isfinite(X).all()
