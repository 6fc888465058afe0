"""Identify the language of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aligner.errors import DataError

IDENTIFIED = 1000
"""Number of characters, from the start of a text, that decide its language."""


def language_of(
    memo: dict[str, Any], where: str, *, allowed: Sequence[str] = (), option: str = ""
) -> Callable[[str], str]:
    """Return a function from a text to the ISO 639-1 code of its language.

    Args:
        memo: Keeps the model of languages for the rest of the process.
        where: Line of the recipe for errors.
        allowed: Codes that must be known.
        option: Option of the recipe that names them.

    Raises:
        DataError: py3langid is not installed, or a code in `allowed` is unknown to it.
    """
    try:
        from py3langid import langid  # an optional dependency
    except ImportError:
        what = "identifying languages needs py3langid, which is not installed"
        raise DataError(what, where=where, hint="pip install aligner[curation]") from None
    if "languages" not in memo:
        memo["languages"] = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    model = memo["languages"]
    known = sorted(model.labels)
    unknown = [code for code in allowed if code not in known]
    if unknown:
        what = f"{option}: there is no language with the code {' or '.join(map(repr, unknown))}"
        raise DataError(what, where=where, hint=f"known: {', '.join(known)}")
    return lambda text: str(model.classify(text[:IDENTIFIED])[0])
