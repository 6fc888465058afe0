"""Identify the language of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aligner.data.context import DataContext
from aligner.errors import DataError

JUDGED = 1000
"""Characters of a text that its language is told by."""


def language_of(
    context: DataContext, option: str, *, allowed: Sequence[str] = ()
) -> Callable[[str], str]:
    """What tells the ISO 639-1 code of a text's language.

    Raises:
        DataError: py3langid is not installed, or knows no language in `allowed` by that code.
    """
    where = context.at(option)
    try:
        from py3langid import langid  # an extra: only telling languages apart needs it
    except ImportError:
        what = "telling languages apart needs py3langid, which is not installed"
        raise DataError(what, where=where, hint="pip install aligner[curation]") from None
    if "languages" not in context.memo:
        context.memo["languages"] = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    model = context.memo["languages"]
    known = sorted(model.labels)
    unknown = [one for one in allowed if one not in known]
    if unknown:
        what = f"clean.languages: no language is known as {' or '.join(map(repr, unknown))}"
        raise DataError(what, where=where, hint=f"known: {', '.join(known)}")
    return lambda text: str(model.classify(text[:JUDGED])[0])
