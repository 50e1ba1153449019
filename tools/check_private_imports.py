"""Fail where a module other than `_compat.py` imports a private part of scikit-learn.

import-linter sees an external package as one node, so it cannot tell `sklearn.utils` from
`sklearn.utils._something`; the syntax tree can.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ALLOWED = "_compat.py"


def is_private(dotted: str) -> bool:
    # sklearn.externals holds vendored packages: private in all but name.
    root, *parts = dotted.split(".")
    return root == "sklearn" and any(
        part == "externals" or (part.startswith("_") and not part.startswith("__"))
        for part in parts
    )


def private_imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if is_private(name))


def main(folders: list[str]) -> int:
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    if not paths:
        sys.exit(f"no Python files in {folders}")
    found = [
        f"{path}:{line}: private import {name}; take it from {ALLOWED}"
        for path in paths
        if path.name != ALLOWED
        for line, name in private_imports(path)
    ]
    print("\n".join(found) or f"{len(paths)} modules, no private scikit-learn import")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["skmag"]))
