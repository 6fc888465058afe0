"""Add changed copies of rows: synonyms, shuffled sentences, swapped or deleted words."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from aligner import AlignerError, OperationContext, RowOperation
from aligner.kit.declare import DataError, ErrorGroup
from aligner.kit.rows import Row, content_key, map_texts, printable_name
from aligner_curation.options import Augment

Thesaurus = Mapping[str, Sequence[str]]

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCES = re.compile(r"(?<=[.!?…])[ \t]+(?=\S)")
_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)


class AugmentRows(RowOperation):
    """Add changed copies of the rows that are trained on, after the held-out rows have been taken away."""

    name = "augment"
    Options = Augment
    # A copy has another prompt than its original, so that rows must be split by prompts before.
    scope = "training entry"
    findings: ClassVar = {"augmented": "are changed copies, added by augmentation"}

    def apply(self, rows: Iterator[Row], context: OperationContext) -> Iterator[Row]:
        """Yield each row and then its copies, which the row and the seed alone decide.

        Raises:
            DataError: the thesaurus cannot be read.
        """
        options: Augment = self.options
        synonyms = thesaurus(options, context) if options.synonyms else {}
        roles = frozenset({"user", "assistant"} if options.answers else {"user"})
        for row in rows:
            yield row
            key, seen = content_key(row), [row]
            for number in range(1, options.copies + 1):
                digest = hashlib.sha256(f"{context.seed} {number} ".encode() + key).digest()
                dice = random.Random(int.from_bytes(digest))
                vary = partial(_vary, options=options, synonyms=synonyms, dice=dice)
                copy = map_texts(row, vary, roles=roles)
                if copy not in seen:
                    seen.append(copy)
                    copy = replace(copy, origin=f"{row.origin} (copy {number})")
                    context.ledger.find("augmented", copy.origin)
                    yield copy

    def determinants(self, context: OperationContext) -> str:
        """Return the seed and the hash of the thesaurus.

        Raises:
            DataError: the thesaurus cannot be read.
        """
        synonyms = ""
        if self.options.synonyms:
            known = sorted(thesaurus(self.options, context).items())
            synonyms = hashlib.sha256(json.dumps(known).encode()).hexdigest()
        return f"{context.seed} {synonyms}"


def _vary(text: str, options: Augment, synonyms: Thesaurus, dice: random.Random) -> str:
    """Change a text in all the ways that `options` ask for; fenced code stays as it is."""
    pieces = _FENCED.split(text)
    return "".join(
        piece if index % 2 else _vary_prose(piece, options, synonyms, dice)
        for index, piece in enumerate(pieces)
    )


def _vary_prose(text: str, options: Augment, synonyms: Thesaurus, dice: random.Random) -> str:
    if options.shuffle_sentences:
        text = "\n".join(_shuffle_sentences(line, dice) for line in text.split("\n"))
    words = [(match.start(), match.end(), match.group()) for match in _WORD.finditer(text)]
    new: list[str | None] = [word for _, _, word in words]
    with_synonyms = [i for i, (_, _, word) in enumerate(words) if word.lower() in synonyms]
    for i in _draw(with_synonyms, options.replace, dice):
        word = words[i][2]
        new[i] = _with_case(dice.choice(synonyms[word.lower()]), word)
    for i in _draw(range(len(words)), options.swap, dice) if len(words) > 1 else ():
        j = dice.choice([other for other in range(len(words)) if other != i])
        new[i], new[j] = new[j], new[i]
    deleted = set(_draw(range(len(words)), options.delete, dice)) if len(words) > 1 else set()
    pieces, end = [], 0
    for i, (start, stop, _) in enumerate(words):
        between, end = text[end:start], stop
        is_deleted = i in deleted and len(deleted) < len(words)
        pieces += [between] if not is_deleted else [between.rstrip(" ")]
        pieces += [] if is_deleted else [new[i] or ""]
    return "".join([*pieces, text[end:]])


def _draw(among: Sequence[int], share: float, dice: random.Random) -> list[int]:
    """Return a random share of `among`, sorted, at least one entry if the share is above 0."""
    if not among or not share:
        return []
    return sorted(dice.sample(list(among), min(len(among), max(1, round(share * len(among))))))


def _with_case(word: str, like: str) -> str:
    """Return `word` with the capitalization of `like`."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


def _shuffle_sentences(line: str, dice: random.Random) -> str:
    sentences = _SENTENCES.split(line)
    dice.shuffle(sentences)
    return " ".join(sentences)


def thesaurus(options: Augment, context: OperationContext) -> Thesaurus:
    """Return the synonyms of each word, in lower case, from the file that `options` name.

    Raises:
        DataError: the file cannot be read, or lines are not a word and its synonyms; all together.
    """
    name = str(options.synonyms)
    try:
        path = context.recipe_folder / Path(name).expanduser()
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        what = f"cannot read the thesaurus {name!r}: {reason}"
        raise DataError(what, where=context.where) from None
    known: dict[str, list[str]] = {}
    errors: list[AlignerError] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, listed = line.partition("\t")
        synonyms = [synonym.strip() for synonym in listed.split(",") if synonym.strip()]
        if not tab or not word.strip() or not synonyms:
            what = f"a thesaurus line should be a word, a tab and its synonyms, not {printable_name(line)!r}"
            errors.append(DataError(what, where=f"{name}:{number}"))
        else:
            others = [synonym for synonym in synonyms if synonym.lower() != word.strip().lower()]
            known.setdefault(word.strip().lower(), []).extend(others)
    ErrorGroup.raise_if_any(errors[:20])
    return {word: tuple(others) for word, others in known.items() if others}
