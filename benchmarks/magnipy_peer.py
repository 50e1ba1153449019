"""magnipy next to the same scipy baseline, in an environment that magnipy imports in.

magnipy pins scipy 1.13.0 and does not import beside current releases, so it is never in one
process with skmag. Run as a script, by the environment that ``ensure_environment`` makes, this
prints JSON: one comparison of magnipy with scipy per n and number of scales. Imported, it makes
that environment and runs itself there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from side_by_side import Setting, compare, limit_threads

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".magnipy-venv"
CONSTRAINTS = HERE / "magnipy-constraints.txt"
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
NEWEST_PYTHON = (3, 12)


class MagnipyUnavailableError(RuntimeError):
    """magnipy cannot be installed here, with the reason."""


def ensure_environment() -> None:
    """Make the environment unless it is there, or raise MagnipyUnavailableError."""
    if _imports_magnipy():
        return
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise MagnipyUnavailableError("magnipy 1.0.0 needs Python 3.12 or older")
    print(f"installing magnipy into {ENVIRONMENT.relative_to(HERE.parent)} ...", flush=True)
    try:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MagnipyUnavailableError(f"no environment could be made: {error}") from error
    install = [PYTHON, "-m", "pip", "install", "--quiet", "-c", CONSTRAINTS, "magnipy"]
    outcome = subprocess.run(install, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise MagnipyUnavailableError(f"pip could not install it: {_last_line(outcome.stderr)}")
    if not _imports_magnipy():
        raise MagnipyUnavailableError("it is installed but does not import")


def run(cells: list[tuple[int, int]], setting: Setting) -> dict:
    """Return what the script prints, run in its environment over these (n, scales)."""
    command = [PYTHON, HERE / "magnipy_peer.py", json.dumps(cells), json.dumps(asdict(setting))]
    outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(outcome.stdout)


def main() -> None:
    """Compare magnipy with scipy in this process and print the comparisons as JSON."""
    cells, setting = json.loads(sys.argv[1]), Setting(**json.loads(sys.argv[2]))
    import magnipy  # noqa: F401  torch is loaded with it, before its threads are limited
    import numpy
    import scipy
    import torch

    if torch.version.cuda is not None:
        raise SystemExit("this environment holds a CUDA build of torch: remove it and start over")
    threads = limit_threads(setting.threads)
    comparisons = [compare("magnipy", n, n_scales, setting).record() for n, n_scales in cells]
    versions = {module.__name__: module.__version__ for module in (numpy, scipy, torch)}
    versions["magnipy"] = version("magnipy")
    print(json.dumps({"versions": versions, "threads": threads, "comparisons": comparisons}))


def _imports_magnipy() -> bool:
    if not PYTHON.exists():
        return False
    return subprocess.run([PYTHON, "-c", "import magnipy"], capture_output=True).returncode == 0


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


if __name__ == "__main__":
    main()
