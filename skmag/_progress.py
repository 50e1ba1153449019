"""Progress of long fits, told to scikit-learn's callbacks, which may stop them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Steps(Protocol):
    """Passes the items of a loop on, and ends early where somebody wants the loop to stop."""

    def __call__(self, items: Iterable[T], /) -> Iterator[T]: ...


@contextmanager
def fit_task(
    estimator: Any, n_steps: int | None = None, X: Any = None, y: Any = None
) -> Iterator[Steps]:
    """Tell an estimator's callbacks of its fit, and of each step of the loop inside.

    The estimator is a :class:`sklearn.callback.CallbackSupportMixin` and its ``fit`` is decorated
    by ``with_callbacks``. Only fits that take seconds are worth it.

    Parameters
    ----------
    estimator : estimator
        Whose fit it is.
    n_steps : int, default=None
        Greatest number of steps, where it is known.
    X, y : array, default=None
        What callbacks are shown of the training data.

    Yields
    ------
    Steps
        ``for item in steps(items)`` loops as ``for item in items`` does, and stops after the step
        at whose end a callback asks for it. What the loop has done so far is then the result.
    """
    root = estimator._init_callback_context(max_subtasks=n_steps)
    root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def steps(items: Iterable[T]) -> Iterator[T]:
        for item in items:
            step = root.subcontext().call_on_fit_task_begin(estimator=estimator, X=X, y=y)
            yield item
            if step.call_on_fit_task_end(estimator=estimator, X=X, y=y):
                return

    yield steps if getattr(estimator, "_skl_callbacks", None) else iter
    root.call_on_fit_task_end(estimator=estimator, X=X, y=y)
