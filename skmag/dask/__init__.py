"""Weightings of Dask arrays whose points no single machine holds."""

from __future__ import annotations

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skmag.dask needs dask, which is not installed: pip install 'skmag[dask]'"
    ) from error

from skmag.dask._weighting import DaskWeighting, weighting

__all__ = ["DaskWeighting", "weighting"]
