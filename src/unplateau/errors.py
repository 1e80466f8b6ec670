"""Every error a user can cause, as one type with one sentence; and what is odd but no error, as a warning.

The sentence names the argument or file, the rule, what was found and the next step. The CLI prints it and
exits with code 2; nothing else in the package prints an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UnplateauError(Exception):
    """Something the user can put right: bad input, a missing extra, a full disk."""


class DataError(UnplateauError):
    """A file or folder of the data set breaks a rule."""


class PieceError(UnplateauError):
    """An extractor, a decoder or a checkpoint does not fit where it was put."""


class OutputError(UnplateauError):
    """A result cannot be written."""


class Doubt(UserWarning):
    """Something odd that may be meant so: said in one sentence, and the work goes on."""


class MissingExtra(UnplateauError):
    """An optional dependency is needed and absent."""

    def __init__(self, package: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed: run `pip install {package}`."
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, as the closing words of an error sentence."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5) or names[:5]
    return "did you mean " + ", ".join(repr(each) for each in near) + "?"
