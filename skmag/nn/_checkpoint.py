"""Files from which a training continues: written in one piece, read without running code."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from skmag._arrays import as_numpy

_FORMAT = "skmag.nn training 1"
_BEGIN_ANEW = "remove the file, or name another one, to begin anew"


class Content(NamedTuple):
    """What a file holds.

    Parameters
    ----------
    fingerprint : dict of str to str
        What must not have changed.
    state : dict
        State of the training.
    """

    fingerprint: dict[str, str]
    state: dict[str, Any]


class Checkpoint:
    """The file of one training, and what has to be the same for it to continue.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise IsADirectoryError(f"checkpoint={str(path)!r} is a directory; name a file in it")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"checkpoint={str(path)!r} is in a directory that does not exist; make it first"
            )

    def write(self, fingerprint: Mapping[str, str], state: Mapping[str, Any]) -> None:
        """Replace the file; who is killed on the way leaves the old one as it was.

        Parameters
        ----------
        fingerprint : mapping of str to str
            What must not change until the training continues: names and their values.
        state : mapping
            Tensors, numbers, strings and containers of these.
        """
        partial = self.path.with_name(self.path.name + ".partial")
        content = {"format": _FORMAT, "fingerprint": dict(fingerprint), "state": dict(state)}
        try:
            with open(partial, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def read(self) -> Content | None:
        """Return what the file holds; None if there is none yet.

        Raises
        ------
        ValueError
            If the file is damaged, or something else.
        """
        if not self.path.exists():
            return None
        with open(self.path, "rb") as file:
            try:
                # Torch takes numbers as they are; the sums of the archive tell what changed.
                damaged = zipfile.ZipFile(file).testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"the sum of {damaged} is not what it was")
                file.seek(0)
                content = torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever the parsers of a damaged file meet
                raise ValueError(
                    f"checkpoint={str(self.path)!r} cannot be read: it is damaged or was not "
                    f"written by a fit ({type(error).__name__}); {_BEGIN_ANEW}"
                ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(
                f"checkpoint={str(self.path)!r} was not written by a fit of this version; "
                f"{_BEGIN_ANEW}"
            )
        return Content(content["fingerprint"], content["state"])

    def check_same(self, written: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Raise ValueError, which names the first of the entries, if fingerprints differ."""
        for name, value in now.items():
            if written.get(name) == value:
                continue
            if name == "X":
                raise ValueError(
                    f"checkpoint={str(self.path)!r} was written for other data than X; "
                    f"{_BEGIN_ANEW}"
                )
            raise ValueError(
                f"checkpoint={str(self.path)!r} was written with {name}={written.get(name)}, but "
                f"now it is {value}; set it back to continue, or {_BEGIN_ANEW}"
            )


def digest(values: torch.Tensor) -> str:
    """A short text that two different tensors do not share."""
    array = np.ascontiguousarray(as_numpy(values))
    found = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    found.update(array.data)
    return found.hexdigest()
