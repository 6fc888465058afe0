"""Replace `${NAME}` in a recipe by environment variables."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aligner.errors import RecipeError, did_you_mean

_REFERENCE = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<inside>[^}]*)\}?", re.DOTALL)
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?", re.DOTALL)
_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)(_|$)", re.I
)


def expand(text: str, environment: Mapping[str, str], *, where: str) -> str:
    """Return `text` with `${NAME}` and `${NAME:-default}` replaced, and `$${` read as `${`.

    The result is always text: it is not parsed as YAML and not expanded again.

    Raises:
        RecipeError: A variable is not set, malformed, or has the name of a secret.
    """

    def value(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "${"
        inside = _INSIDE.fullmatch(found["inside"])
        if inside is None or not found[0].endswith("}") or "${" in found["inside"]:
            raise RecipeError(
                f"{found[0][:60]!r} is not a variable",
                where=where,
                hint="write ${NAME} or ${NAME:-default}; for the characters themselves, $${",
            )
        name, default = inside["name"], inside["default"]
        if _SECRET.search(name):
            raise RecipeError(
                f"the variable {name!r} looks like a secret, and the run folder contains the recipe",
                where=where,
                hint="remove it: the libraries read tokens from the environment themselves",
            )
        if default is not None:
            return environment.get(name) or default.removeprefix(":-")
        if name not in environment:
            near = did_you_mean(name, environment)
            raise RecipeError(
                f"the environment variable {name!r} is not set",
                where=where,
                hint=near if near.startswith("did") else f"set it, or write ${{{name}:-default}}",
            )
        return environment[name]

    return _REFERENCE.sub(value, text)


def escape(text: str) -> str:
    """Return the text that expands to `text`: the inverse of `expand`.

    >>> escape("${HOME}")
    '$${HOME}'
    """
    return text.replace("${", "$${")
