"""Find a chat template by its name, and read what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aligner.errors import ChainError, did_you_mean

FOLDER = Path(__file__).parent / "templates"
HEADER = re.compile(r"\A\{#-?\s*(?P<about>.*?)-?#\}\s*", re.DOTALL)
OWN = "own"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, and the tokens that must be in the vocabulary for it."""

    name: str
    source: str
    """Jinja."""
    special: tuple[str, ...] = ()
    end: str | None = None
    """The token that ends an answer; None where that is the tokenizer's own `eos`."""


def names() -> list[str]:
    """The names of all templates."""
    return sorted(path.stem for path in FOLDER.glob("*.jinja"))


def named(name: str) -> ChatTemplate:
    """Read a template by its name.

    The comment at its head says `special: TOKEN TOKEN` and `end: TOKEN`, and is left out of what the
    tokenizer gets.
    """
    text = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    header = HEADER.match(text)
    assert header is not None, f"{name} does not begin with a comment"
    said = dict(line.strip().split(": ", 1) for line in header["about"].strip().split("\n"))
    end = said["end"]
    special = tuple(said.get("special", "").split())
    return ChatTemplate(
        name, text[header.end() :].rstrip("\n"), special, None if end == "eos" else end
    )


def find(name: str, folder: Path, where: str) -> ChatTemplate:
    """The template called `name`, or in the Jinja file `name`, relative to `folder`.

    Raises:
        ChainError: there is neither.
    """
    if name in names():
        return named(name)
    path = folder / Path(name).expanduser()
    if path.suffix in (".jinja", ".jinja2", ".j2") or "/" in name:
        try:
            return ChatTemplate(name, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ChainError(
                f"cannot read the chat template {name!r}: {said}", where=where
            ) from None
    hint = did_you_mean(name, [*names(), OWN])
    raise ChainError(f"there is no chat template {name!r}", where=where, hint=hint)
