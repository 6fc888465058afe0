"""Add changed copies of rows: synonyms, sentences in another order, words exchanged or left out."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from aligner.data.context import DataContext
from aligner.data.curation.spec import Augment
from aligner.data.describe import printable_name
from aligner.data.ledger import Tally
from aligner.data.options import DataSpec
from aligner.data.row_keys import content_key
from aligner.data.row_texts import map_texts
from aligner.data.rows import Row
from aligner.errors import AlignerError, DataError, ErrorGroup

Thesaurus = Mapping[str, Sequence[str]]

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCES = re.compile(r"(?<=[.!?…])[ \t]+(?=\S)")
_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)


def augmented(
    rows: Iterator[Row], spec: DataSpec, tally: Tally, *, context: DataContext, option: str
) -> Iterator[Row]:
    """`rows`, each followed by its changed copies, if `spec` asks for any.

    To be given only rows that are trained on: a copy's prompt is another than its original's, so
    that parting rows by their prompts must come before. What becomes of a row depends on the row and
    the seed alone.

    Raises:
        DataError: the thesaurus cannot be read.
    """
    if spec.augment is None:
        return rows
    synonyms = thesaurus(spec.augment, context, option) if spec.augment.synonyms else {}
    return _with_copies(rows, spec.augment, synonyms, tally, context.seed)


def _with_copies(
    rows: Iterator[Row], how: Augment, synonyms: Thesaurus, tally: Tally, seed: int
) -> Iterator[Row]:
    roles = frozenset({"user", "assistant"} if how.answers else {"user"})
    for row in rows:
        yield row
        key, seen = content_key(row), [row]
        for copy in range(1, how.copies + 1):
            digest = hashlib.sha256(f"{seed} {copy} ".encode() + key).digest()
            dice = random.Random(int.from_bytes(digest))
            varied = partial(_varied, how=how, synonyms=synonyms, dice=dice)
            made = map_texts(row, varied, roles=roles)
            if made not in seen:
                seen.append(made)
                made = replace(made, origin=f"{row.origin} (copy {copy})")
                tally.find("augmented", made.origin)
                yield made


def _varied(text: str, how: Augment, synonyms: Thesaurus, dice: random.Random) -> str:
    """`text` changed in all the ways asked for; fenced code stays as it is."""
    pieces = _FENCED.split(text)
    return "".join(
        piece if index % 2 else _prose(piece, how, synonyms, dice)
        for index, piece in enumerate(pieces)
    )


def _prose(text: str, how: Augment, synonyms: Thesaurus, dice: random.Random) -> str:
    if how.shuffle_sentences:
        text = "\n".join(_shuffled(line, dice) for line in text.split("\n"))
    words = [(one.start(), one.end(), one.group()) for one in _WORD.finditer(text)]
    new: list[str | None] = [word for _, _, word in words]
    with_synonyms = [i for i, (_, _, word) in enumerate(words) if word.lower() in synonyms]
    for i in _chosen(with_synonyms, how.replace, dice):
        word = words[i][2]
        new[i] = _cased(dice.choice(synonyms[word.lower()]), word)
    for i in _chosen(range(len(words)), how.swap, dice) if len(words) > 1 else ():
        j = dice.choice([other for other in range(len(words)) if other != i])
        new[i], new[j] = new[j], new[i]
    left_out = set(_chosen(range(len(words)), how.delete, dice)) if len(words) > 1 else set()
    pieces, end = [], 0
    for i, (start, stop, _) in enumerate(words):
        between, end = text[end:start], stop
        gone = i in left_out and len(left_out) < len(words)
        pieces += [between] if not gone else [between.rstrip(" ")]
        pieces += [] if gone else [new[i] or ""]
    return "".join([*pieces, text[end:]])


def _chosen(among: Sequence[int], share: float, dice: random.Random) -> list[int]:
    """A random share of `among`, at least one where the share is above 0."""
    if not among or not share:
        return []
    return sorted(dice.sample(list(among), min(len(among), max(1, round(share * len(among))))))


def _cased(word: str, like: str) -> str:
    """`word` with capitals as `like` has them."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _shuffled(line: str, dice: random.Random) -> str:
    sentences = _SENTENCES.split(line)
    dice.shuffle(sentences)
    return " ".join(sentences)


def thesaurus(how: Augment, context: DataContext, option: str) -> Thesaurus:
    """The synonyms of each word, in lower case, of the file that `how` names.

    Raises:
        DataError: it cannot be read, or a line is no word with synonyms; all such lines together.
    """
    name, where = str(how.synonyms), context.at(option)
    try:
        written = (context.recipe_folder / Path(name).expanduser()).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read the thesaurus {name!r}: {said}", where=where) from None
    known: dict[str, list[str]] = {}
    errors: list[AlignerError] = []
    for number, line in enumerate(written.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, listed = line.partition("\t")
        synonyms = [one.strip() for one in listed.split(",") if one.strip()]
        if not tab or not word.strip() or not synonyms:
            what = f"a thesaurus line should be a word, a tab and its synonyms, not {printable_name(line)!r}"
            errors.append(DataError(what, where=f"{name}:{number}"))
        else:
            others = [one for one in synonyms if one.lower() != word.strip().lower()]
            known.setdefault(word.strip().lower(), []).extend(others)
    ErrorGroup.raise_if_any(errors[:20])
    return {word: tuple(others) for word, others in known.items() if others}
