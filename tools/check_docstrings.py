"""Validate with numpydoc the docstrings of all that `skmag.__all__` makes public."""

import inspect
import sys
from collections.abc import Iterator
from functools import cached_property
from types import ModuleType

from numpydoc.validate import validate

import skmag

# Every check of numpydoc but these.
SKIPPED = {
    "ES01",  # a good one-line summary may be all there is to say
    "RT02",  # scikit-learn names the returned value: "labels : ndarray of shape (n,)"
    "SA01",  # See Also only where it helps
}
# An example shows a class at work, its methods included; a warning is shown where it is raised.
SKIPPED_IN_METHODS = {*SKIPPED, "EX01"}
SKIPPED_IN_EXCEPTIONS = {*SKIPPED, "EX01"}


def methods(cls: type) -> Iterator[str]:
    """Public methods and properties that skmag itself defines, not the inherited ones."""
    seen: set[str] = set()
    for owner in cls.__mro__:
        if not owner.__module__.startswith("skmag"):
            continue
        for name, value in vars(owner).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if isinstance(value, property | cached_property) or (
                callable(getattr(cls, name))
                and getattr(inspect.unwrap(getattr(cls, name)), "__module__", "").startswith(
                    "skmag"
                )
            ):
                yield name


def targets(module: ModuleType) -> Iterator[tuple[str, set[str]]]:
    for name in module.__all__:
        value, path = getattr(module, name), f"{module.__name__}.{name}"
        if inspect.ismodule(value):
            yield from targets(value)
        elif inspect.isclass(value):
            is_exception = issubclass(value, BaseException)
            yield path, SKIPPED_IN_EXCEPTIONS if is_exception else SKIPPED
            yield from ((f"{path}.{m}", SKIPPED_IN_METHODS) for m in methods(value))
        elif callable(value):
            yield path, SKIPPED


def main() -> int:
    checked, problems = 0, []
    for target, skipped in targets(skmag):
        checked += 1
        for code, message in validate(target)["errors"]:
            if code not in skipped:
                problems.append(f"{target}: {code} {message}")
    if not checked:
        sys.exit("skmag.__all__ names nothing that could be checked")
    print("\n".join(problems) or f"{checked} docstrings follow numpydoc")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
