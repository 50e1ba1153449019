"""Running tasks under whatever Dask scheduler is active."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.config
from dask.base import compute as dask_compute
from dask.base import persist as dask_persist
from dask.delayed import delayed

# Numbers of rows travel to the tasks inside the graph, not ahead of it as scattered data would: so
# a task whose worker is lost can be run again from what the scheduler knows. A client warns of
# graphs beyond some megabytes, which a few numbers for each row may be.
_LARGE_GRAPHS = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}


def task(function: Any, *shared: Any, **options: Any) -> Any:
    """Return `function` with its first arguments given, ready to be called on tasks."""
    return delayed(partial(function, *shared), pure=False, **options)


def constant(value: Any) -> Any:
    """Return a value that several tasks take, once in the graph."""
    return delayed(value, traverse=False)


def compute(tasks: Sequence[Any]) -> list[Any]:
    """Return the results of tasks."""
    with dask.config.set(_settings()):
        return list(dask_compute(*tasks))


def persist(tasks: Sequence[Any]) -> list[Any]:
    """Run tasks and leave the results where they are, so that they are not computed again."""
    with dask.config.set(_settings()):
        return list(dask_persist(*tasks))


def _settings() -> dict[str, str]:
    # Before distributed is imported, its settings must not be touched: it adds its own when it is,
    # and the end of this one would take them along.
    return _LARGE_GRAPHS if "distributed" in sys.modules else {}
