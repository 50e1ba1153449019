"""Data of the papers: generated, or read from the folder that ``SKMAG_DATA`` names."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["available", "load", "make_checkerboard"]


def make_checkerboard(
    n_samples: int = 1000, n_tiles: int = 4, *, random_state: int | np.random.RandomState | None = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points uniformly from a checkerboard whose colours are the classes.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    n_tiles : int, default=4
        Tiles along each side.
    random_state : int, RandomState or None, default=0
        Seed of the draw.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        Points in the unit square.
    y : ndarray of shape (n_samples,)
        0 or 1, the colour of each point's tile.

    References
    ----------
    "Practical applications of metric space magnitude and weighting vectors", section 4.1.

    Examples
    --------
    >>> from skmag.datasets import make_checkerboard
    >>> X, y = make_checkerboard(500)
    >>> X.shape, sorted(set(y.tolist()))
    ((500, 2), [0, 1])
    """
    X = check_random_state(random_state).uniform(size=(n_samples, 2))
    return X, np.floor(X * n_tiles).astype(int).sum(axis=1) % 2


def available() -> list[str]:
    """List the data sets that :func:`load` can read on this machine.

    Returns
    -------
    list of str
        Names, empty where ``SKMAG_DATA`` is not set.

    Examples
    --------
    >>> from skmag.datasets import available
    >>> isinstance(available(), list)
    True
    """
    folder = os.environ.get("SKMAG_DATA")
    if not folder:
        return []
    return [name for name, (file, _) in _READERS.items() if (Path(folder) / file).exists()]


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one of the papers' data sets from the folder that ``SKMAG_DATA`` names.

    Parameters
    ----------
    name : str
        "cleveland" (complete rows, disease or none), "galaxy_dim", "housing" (price above the
        median or not), "ionosphere", "mnist" (the training images, raw pixels from 0 to 255) or
        "tic_tac_toe" (blank, o and x as 0, 1 and 2); or a set of ADBench, in which class 1 are
        the outliers: "annthyroid", "breastw", "mammography", "pima", "satellite" or "shuttle".

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Features, not scaled.
    y : ndarray of shape (n_samples,)
        Classes, numbered from 0.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If ``SKMAG_DATA`` is not set or has no such file.

    Examples
    --------
    >>> from skmag.datasets import available, load
    >>> if "ionosphere" in available():
    ...     X, y = load("ionosphere")
    ...     assert X.shape == (351, 34)
    """
    if name not in _READERS:
        raise ValueError(f"name={name!r} is unknown; use one of {sorted(_READERS)}")
    file, read = _READERS[name]
    folder = os.environ.get("SKMAG_DATA")
    path = Path(folder or ".") / file
    if not folder or not path.exists():
        raise FileNotFoundError(
            f"{name} is read from {file} in the folder that the environment variable SKMAG_DATA "
            f"names, which is {folder!r}"
        )
    return read(path)


def _table(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", dtype=str)


def _ionosphere(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path)
    return table[:, :-1].astype(float), (table[:, -1] == "g").astype(int)


def _cleveland(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path)
    complete = table[(table != "?").all(axis=1)].astype(float)
    return complete[:, :-1], (complete[:, -1] > 0).astype(int)


def _housing(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path).astype(float)
    return table[:, :-1], (table[:, -1] > np.median(table[:, -1])).astype(int)


def _galaxy_dim(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path).astype(float)
    return table[:, :-1], (table[:, -1] > 0).astype(int)


def _tic_tac_toe(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = _table(path)
    # The encoding under which the peers reproduce the published figures.
    squares = np.select([table[:, :-1] == "x", table[:, :-1] == "o"], [2.0, 1.0], 0.0)
    return squares, (table[:, -1] == "positive").astype(int)


def _mnist(path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    labels = gzip.decompress((path.parent / "train-labels-idx1-ubyte.gz").read_bytes())
    X = images.reshape(-1, 784).astype(float)
    return X, np.frombuffer(labels, np.uint8, offset=8).astype(int)


def _adbench(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as data:
        return data["X"].astype(float), data["y"].astype(int)


_READERS: dict[str, tuple[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]]] = {
    "cleveland": ("cleveland_heart.csv", _cleveland),
    "galaxy_dim": ("galaxy_dim.csv", _galaxy_dim),
    "housing": ("boston_housing.csv", _housing),
    "ionosphere": ("ionosphere.csv", _ionosphere),
    "mnist": ("mnist/train-images-idx3-ubyte.gz", _mnist),
    "tic_tac_toe": ("tic_tac_toe.csv", _tic_tac_toe),
    "annthyroid": ("adbench/2_annthyroid.npz", _adbench),
    "breastw": ("adbench/4_breastw.npz", _adbench),
    "mammography": ("adbench/23_mammography.npz", _adbench),
    "pima": ("adbench/29_Pima.npz", _adbench),
    "satellite": ("adbench/30_satellite.npz", _adbench),
    "shuttle": ("adbench/32_shuttle.npz", _adbench),
}
