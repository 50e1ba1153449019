"""What every test needs. Its being here puts `tests/` on the path, so `reference` imports."""

import os

# scikit-learn dispatches to other array libraries only if scipy was told to, before its import.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
