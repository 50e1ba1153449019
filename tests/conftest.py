"""What every test needs. Its being here puts `tests/` on the path, so `reference` imports."""

import os

import pytest

# scikit-learn dispatches to other array libraries only if scipy was told to, before its import.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

from left_out import blobs

from skmag import MagnitudeClassifier
from skmag._criteria import CRITERIA


@pytest.fixture(scope="session", params=CRITERIA)
def fitted(request):
    """A classifier of each criterion, fitted on three classes, and its training data."""
    X, y = blobs()
    return MagnitudeClassifier(1.0, criterion=request.param).fit(X, y), X, y
