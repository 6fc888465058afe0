"""Chat templates by name, with the special tokens that their header declares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aligner.kit.declare import ChainError, did_you_mean

FOLDER = Path(__file__).parent / "templates"
HEADER = re.compile(r"\A\{#-?\s*(?P<about>.*?)-?#\}\s*", re.DOTALL)
OWN = "own"
"""Value of `template` for the tokenizer's own template."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, and the tokens that the vocabulary must contain for it."""

    name: str
    source: str
    """Jinja."""
    special: tuple[str, ...] = ()
    end: str | None = None
    """Token that ends an answer; None for the tokenizer's own `eos`."""


def template_names() -> list[str]:
    """Return the names of all templates."""
    return sorted(path.stem for path in FOLDER.glob("*.jinja"))


def read_template(name: str) -> ChatTemplate:
    """Read a template by its name.

    The comment at its head declares `special: TOKEN TOKEN` and `end: TOKEN`; it is removed.
    """
    text = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    header = HEADER.match(text)
    assert header is not None, f"{name} does not begin with a comment"
    fields = dict(line.strip().split(": ", 1) for line in header["about"].strip().split("\n"))
    end = fields["end"]
    special = tuple(fields.get("special", "").split())
    return ChatTemplate(
        name, text[header.end() :].rstrip("\n"), special, None if end == "eos" else end
    )


def find_template(name: str, folder: Path) -> ChatTemplate:
    """Find a template by its name, or read the Jinja file `name`, relative to `folder`.

    Raises:
        ChainError: there is neither.
    """
    if name in template_names():
        return read_template(name)
    path = folder / Path(name).expanduser()
    if path.suffix in (".jinja", ".jinja2", ".j2") or "/" in name:
        try:
            return ChatTemplate(name, path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ChainError(f"cannot read the chat template {name!r}: {reason}") from None
    hint = did_you_mean(name, [*template_names(), OWN])
    raise ChainError(f"there is no chat template {name!r}", hint=hint)
