"""Products with zeta by tiles, each of which serves both triangles and may be kept for the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from sklearn import get_config

from skmag._arrays import block_slices, free_device_memory, on_host, scaled_exp
from skmag._metrics import by_planes
from skmag._similarity import Similarity
from skmag._solvers._repeated import PLANES, RepeatedDistances

# A tile and what it is computed from stay in the cache of a processor; an accelerator wants more,
# up to the side at which launching costs nothing beside the work.
TILE_ROWS, TILE_COLUMNS = 256, 2048
_ACCELERATOR_TILE = 8192
# Shares of an accelerator's free memory for a tile with all that it is made from, six arrays of
# float64 at most, and for the tiles that are kept.
_TILE_SHARE, _TILE_BYTES, _KEPT_SHARE = 1 / 4, 48, 1 / 4
# float64 products are summed by so many columns, whose roundings a certificate has to allow for.
_SUMMED_COLUMNS = 256
# Columns up to which a product takes them one by one.
_FEW_COLUMNS = 3
# Scales beyond which float32 knows zero and one only.
_SINGLE_SCALE = 1e30


@dataclass(frozen=True)
class Tile:
    """A block of the operator right of, and including, its diagonal part.

    Parameters
    ----------
    rows, columns : slice
        Where it stands; the first tile of some rows begins with their square on the diagonal.
    values : tensor of shape (n_rows, n_columns)
        Its entries.
    """

    rows: slice
    columns: slice
    values: torch.Tensor

    @property
    def own(self) -> int:
        """Number of leading columns that are the rows themselves."""
        return self.rows.stop - self.rows.start if self.columns.start == self.rows.start else 0


class Workspace:
    """What operators of the same points at one scale leave for the next: distance and memory.

    Attributes
    ----------
    closest : float
        Least distance between two points; infinite until it is known.
    """

    def __init__(self) -> None:
        self.closest = math.inf
        self._free: dict[tuple[torch.Size, torch.dtype], list[torch.Tensor]] = {}

    def room(self, like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Memory of the shape of a tile: spent if there is any, which costs no page faults."""
        free = self._free.get((like.shape, dtype))
        return free.pop() if free else torch.empty_like(like, dtype=dtype)

    def take(self, *spent: Products) -> None:
        """Take over the tiles of operators that nobody will ask again."""
        for products in spent:
            self.closest = min(self.closest, products.closest)
            for values in products.spend():
                self._free.setdefault((values.shape, values.dtype), []).append(values)


class Products:
    """The matrix zeta, or the anchored S, as an operator on columns of vectors.

    Parameters
    ----------
    similarity : Similarity
        What zeta is made of.
    dtype : torch.dtype, default=torch.float64
        Precision of the entries. float32 tiles are computed from coordinates that are centred
        first, in less than half of the time.
    keep_bytes : int, default=0
        Memory for tiles that are kept; those beyond it are computed again in every product.
    anchored : bool, default=None
        Whether the operator is S with an identity row for the anchor (see
        :mod:`skmag._similarity`), entry by entry. None does so where zeta is nearly constant.
    workspace : Workspace, default=None
        What an operator of the same points at another scale has left.

    Attributes
    ----------
    closest : float
        Least distance between two points; infinite before the first product.
    greatest_row_sum : float or None
        Greatest computed sum of a row, once somebody has asked for it.
    """

    def __init__(
        self,
        similarity: Similarity,
        dtype: torch.dtype = torch.float64,
        keep_bytes: float = 0,
        anchored: bool | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.similarity = similarity
        self.dtype = dtype
        self.anchored = similarity.nearly_constant if anchored is None else anchored
        self._workspace = Workspace() if workspace is None else workspace
        self.closest = self._workspace.closest
        self._separated = math.isfinite(self.closest)
        self._keep_bytes = keep_bytes
        self.greatest_row_sum: float | None = None
        self._kept: list[Tile] = []
        self._places: list[tuple[slice, slice]] | None = None
        # Distances are in units of the largest coordinate where float32 computes them.
        self._single, self._unit = None, 1.0
        if dtype == torch.float32 and _has_single_points(similarity):
            self._single, self._unit = _single_points(similarity)
        self._anchor = (similarity.anchor * similarity.t).to(dtype)
        self._least: torch.Tensor | None = None
        self._repeated: RepeatedDistances | None = None
        self._tile_shape = tile_shape(similarity.device)
        host = on_host(similarity.device)
        if not host and similarity.table is None and similarity.points is not None:
            points = similarity.points if self._single is None else self._single
            if RepeatedDistances.suits(similarity.metric, points):
                self._repeated = RepeatedDistances(similarity.metric, points)

    def __len__(self) -> int:
        return len(self.similarity)

    def product(self, V: torch.Tensor) -> torch.Tensor:
        """Return the operator times columns `V`, of shape (n_points, n_columns), in float64."""
        V = V.to(self.dtype)
        # Products with vectors, one after the other, outrun those with a narrow matrix.
        few = V.shape[1] <= _FEW_COLUMNS
        columns = [_native(c) for c in V.mT.contiguous()] if few else [_native(V)]
        sums = [torch.zeros(c.shape, dtype=torch.float64, device=V.device) for c in columns]
        totals = [_native(total) for total in sums]
        for tile in self.tiles():
            values, own, (start, stop) = _native(tile.values), tile.own, _ends(tile.columns)
            parts = block_slices(stop - start, self._summed)
            for column, total in zip(columns, totals, strict=True):
                right = column[tile.columns]
                for part in parts:
                    total[tile.rows] += values[:, part] @ right[part]
                total[start + own : stop] += values[:, own:].T @ column[tile.rows]
        return torch.stack(sums, 1) if few else sums[0]

    @property
    def roundings(self) -> int:
        """Most roundings that a term of a float64 product goes through, in any order of sums.

        A sum of k products rounds each term at most k times, whatever its order, and every entry
        adds up one such sum for each part of its row and for each tile above its own.
        """
        n, (height, _) = len(self), self._tile_shape
        return min(n, max(height, self._summed)) + math.ceil(n / height) + self._n_parts

    @property
    def is_kept(self) -> bool:
        """Whether a product has left all tiles, so that the next one computes none."""
        return self._places is not None and not self._places

    @property
    def _summed(self) -> int:
        summed = on_host(self.similarity.device) and self.dtype == torch.float64
        return _SUMMED_COLUMNS if summed else _ACCELERATOR_TILE

    @property
    def _n_parts(self) -> int:
        """Most parts of a row, each of which a tile cuts once more at most."""
        n, (_, width) = len(self), self._tile_shape
        return math.ceil(n / width) * math.ceil(width / self._summed) + 1

    def tiles(self) -> Iterator[Tile]:
        """The tiles of the upper triangle, kept ones first."""
        yield from self._kept
        if self._places is None:
            self._places = self._all_places()
        left, self._places = self._places, []
        for number, (rows, columns) in enumerate(left):
            tile = Tile(rows, columns, self._values(rows, columns))
            size = tile.values.numel() * tile.values.element_size()
            if size <= self._keep_bytes:
                self._keep_bytes -= size
                self._kept.append(tile)
            else:
                self._places.append((rows, columns))
            try:
                yield tile
            except GeneratorExit:
                self._places += left[number + 1 :]
                raise
        if self._least is not None:
            # Only now, so that no tile makes the host wait for a device.
            self.closest = min(self.closest, float(self._least) * self._unit)
            self._least = None
        self._separated = True

    def rounded(self) -> Products:
        """Return the same operator in float32, with the tiles that are kept rounded."""
        out = Products(self.similarity, torch.float32, 0, self.anchored, self._workspace)
        if not self._kept:
            for _ in self.tiles():
                pass
        for tile in self._kept:
            room = self._workspace.room(tile.values, torch.float32)
            out._kept.append(Tile(tile.rows, tile.columns, room.copy_(tile.values)))
        out._places, out.closest, out._separated = self._places, self.closest, True
        return out

    def spend(self) -> list[torch.Tensor]:
        """Hand over the memory of the kept tiles."""
        spent, self._kept, self._places = [tile.values for tile in self._kept], [], None
        return spent

    def _all_places(self) -> list[tuple[slice, slice]]:
        n, (height, width) = len(self), self._tile_shape
        return [
            (rows, columns)
            for rows in block_slices(n, height)
            for columns in _shifted(block_slices(n - rows.start, width), rows.start)
        ]

    def _values(self, rows: slice, columns: slice) -> torch.Tensor:
        distance, diagonal = self._distances(rows, columns), columns.start == rows.start
        if not self._separated:
            self._measure(distance, diagonal)
        scale = self.similarity.t * self._unit
        if self.dtype == torch.float32:
            scale = min(scale, _SINGLE_SCALE)
        if self.anchored:
            distance = distance * scale
            if diagonal:
                distance.diagonal().zero_()
            return self._anchored_values(distance, rows, columns)
        out = self._workspace.room(distance, self.dtype)
        scaled_exp(distance, -scale, out)
        if diagonal:
            out.diagonal().fill_(1.0)
        return out

    def _measure(self, distance: torch.Tensor, diagonal: bool) -> None:
        """Note the least distance between two points of a tile."""
        parts = [distance]
        if diagonal:
            n = len(distance)
            own = distance[:, :n].clone()
            own.diagonal().fill_(torch.inf)
            parts = [own, distance[:, n:]]
        for part in parts:
            if part.numel():
                least = part.min()
                self._least = least if self._least is None else self._least.minimum(least)

    def _anchored_values(self, distance: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        """Entries of S, with an identity row and column for the anchor, from t times distances."""
        out = self._workspace.room(distance, self.dtype)
        torch.add(self._anchor[rows, None], self._anchor[columns], out=out)
        out.sub_(distance).neg_().expm1_().neg_().mul_(distance.neg_().exp_())
        if columns.start == 0:
            out[:, 0] = 0.0
        if rows.start == 0:
            out[0] = 0.0
            if columns.start == 0:
                out[0, 0] = 1.0
        return out

    def _distances(self, rows: slice, columns: slice) -> torch.Tensor:
        """Distances in the operator's unit; rounding may have left some on the diagonal."""
        if self._repeated is not None:
            return self._repeated.block(rows, columns).to(self.dtype)
        if self._single is not None:
            return self._single_distances(self._single[rows], self._single[columns])
        if self.similarity.table is not None:
            return self.similarity.table[rows, columns].to(self.dtype)
        assert self.similarity.points is not None
        points = self.similarity.points
        return self.similarity.metric.block(points[rows], points[columns]).to(self.dtype)

    def _single_distances(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        planar = self.similarity.metric.name == "euclidean" and A.shape[1] <= PLANES
        return by_planes(A, B) if planar else self.similarity.metric.block(A, B)


def _native(values: torch.Tensor) -> Any:
    """The same memory as numpy's, whose products are the faster ones; tensors of a device stay."""
    return values.numpy() if on_host(values) else values


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop


def operators(
    similarity: Similarity, workspace: Workspace | None = None
) -> tuple[Products, Products]:
    """The operator in float64 and in float32, with as many tiles kept as memory allows.

    Where both fit, distances are computed once. Where not, float32 tiles are what steps of
    conjugate gradients need most.
    """
    n, budget = len(similarity), kept_bytes(similarity.device)
    both = 6 * n * (n + tile_shape(similarity.device)[1])
    if both <= budget:
        exact = Products(similarity, keep_bytes=budget, workspace=workspace)
        return exact, exact.rounded()
    single = Products(similarity, torch.float32, budget, workspace=workspace)
    return Products(similarity, workspace=workspace), single


def kept_bytes(device: torch.device | None = None) -> int:
    """Bytes of tiles to keep: scikit-learn's `working_memory`, on a card a share of its own."""
    if device is None or on_host(device):
        return int(get_config()["working_memory"] * 2**20)
    return int(_KEPT_SHARE * free_device_memory(device))


def tile_shape(device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile: what a cache holds, or what fits a device with what it is of."""
    if on_host(device):
        return TILE_ROWS, TILE_COLUMNS
    side = math.isqrt(int(_TILE_SHARE * free_device_memory(device)) // _TILE_BYTES)
    side = min(_ACCELERATOR_TILE, max(TILE_ROWS, side - side % TILE_ROWS))
    return side, side


def _has_single_points(similarity: Similarity) -> bool:
    """Whether distances may be those of points in float32."""
    return similarity.points is not None and similarity.metric.is_norm and similarity.table is None


def _single_points(similarity: Similarity) -> tuple[torch.Tensor, float]:
    """Points in float32, centred and in a unit in which none exceeds one, and that unit."""
    assert similarity.points is not None
    points = similarity.points - similarity.points.mean(0)
    largest = float(points.abs().max())
    # A power of two rounds nothing; squares of coordinates near one keep clear of both ends.
    unit = 2.0 ** math.frexp(largest)[1] if largest > 0 else 1.0
    return (points / unit).to(torch.float32), unit


def _shifted(slices: list[slice], by: int) -> list[slice]:
    return [slice(part.start + by, part.stop + by) for part in slices]
