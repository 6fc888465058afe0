"""Errors a user can cause: location, problem, hint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import ClassVar


class AlignerError(Exception):
    """An error the user can fix. The command line prints it without a traceback."""

    exit_code: ClassVar[int] = 2
    """Exit status of the process: 2 refused, 1 failed, 75 interrupted and resumable."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        return f"{line}\n  hint: {self.hint}" if self.hint else line

    def locate(self, where: str) -> None:
        """Set the location, unless the error has one already."""
        self.where = self.where or where


class RecipeError(AlignerError):
    """The file is not a valid recipe."""


class ChainError(AlignerError):
    """The recipe is valid, but its steps do not fit together."""


class DataError(AlignerError):
    """The data is missing, malformed, or would silently harm the model."""


class ModelError(AlignerError):
    """A model or tokenizer cannot be used as requested."""


class PluginError(AlignerError):
    """A plugin violates the plugin contract."""


class StageError(AlignerError):
    """A running stage failed or violated its declaration."""

    exit_code = 1


class GateError(StageError):
    """A metric of a finished step is outside the bounds of its gate."""


class Stopped(AlignerError):
    """The run was interrupted; finished steps are kept, and the run can be resumed."""

    exit_code = 75


class ErrorGroup(AlignerError):
    """Several errors, in the order found, without duplicates."""

    def __init__(self, errors: Sequence[AlignerError]) -> None:
        unique: dict[str, AlignerError] = {}
        for error in errors:
            for member in error.errors if isinstance(error, ErrorGroup) else (error,):
                unique.setdefault(str(member), member)
        self.errors: tuple[AlignerError, ...] = tuple(unique.values())
        super().__init__(self._text())

    def locate(self, where: str) -> None:
        """Set the location of each error that has none."""
        for error in self.errors:
            error.locate(where)
        self.what = self._text()

    def _text(self) -> str:
        return "\n".join(map(str, self.errors))

    @classmethod
    def raise_if_any(cls, errors: Sequence[AlignerError]) -> None:
        """Raise a single error as it is and several as a group; do nothing without errors."""
        if errors:
            group = cls(errors)
            raise group.errors[0] if len(group.errors) == 1 else group


class ErrorCollector:
    """Collect errors instead of stopping at the first: `with collector: …` catches an AlignerError.

    >>> collector = ErrorCollector()
    >>> with collector:
    ...     raise DataError("no rows")
    >>> [str(error) for error in collector.found]
    ['no rows']
    """

    def __init__(self) -> None:
        self.found: list[AlignerError] = []

    def __enter__(self) -> ErrorCollector:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, AlignerError):
            return False
        self.found.append(error)
        return True

    def raise_if_any(self) -> None:
        """Raise the collected errors together."""
        ErrorGroup.raise_if_any(self.found)


@contextmanager
def error_location(where: str) -> Iterator[None]:
    """Give `where` as location to errors that leave the body without one.

    Functions below need no parameter for it: the caller that knows the line adds it once.

    >>> with error_location("recipe.yaml:7"):
    ...     raise DataError("no rows")
    Traceback (most recent call last):
    aligner.errors.DataError: recipe.yaml:7: no rows
    """
    try:
        yield
    except AlignerError as error:
        error.locate(where)
        raise


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the known word closest to `word`, or list all of them.

    >>> did_you_mean("dqo", ["sft", "dpo"])
    "did you mean 'dpo'?"
    >>> did_you_mean("xyz", ["sft", "dpo"])
    'known: dpo, sft'
    """
    known = sorted(known)
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
