"""The private scikit-learn helpers that skmag cannot avoid; nothing else imports them."""

from __future__ import annotations

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import (
    _is_numpy_namespace as is_numpy_namespace,
)
from sklearn.utils._array_api import (
    _max_precision_float_dtype as max_precision_float_dtype,
)
from sklearn.utils._array_api import (
    check_same_namespace,
    get_namespace_and_device,
    move_to,
)
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

__all__ = [
    "Interval",
    "RealNotInt",
    "StrOptions",
    "check_same_namespace",
    "fit_context",
    "get_namespace_and_device",
    "is_numpy_namespace",
    "max_precision_float_dtype",
    "move_to",
    "safe_indexing",
]
