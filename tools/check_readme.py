"""Run the ```python blocks of a Markdown file in order, in one namespace, warnings as errors."""

import re
import sys
import warnings
from pathlib import Path

BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def main(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    if not blocks:
        sys.exit(f"{path}: no python block found")
    namespace: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            # Blank lines put each statement on its line of the file, so tracebacks point there.
            lines_before = text.count("\n", 0, block.start(1))
            exec(compile("\n" * lines_before + block[1], path, "exec"), namespace)
    print(f"{path}: {len(blocks)} blocks ran")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["README.md"])
