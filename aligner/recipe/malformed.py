"""Explain in plain words why text is not YAML, with its line."""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from aligner.errors import RecipeError

# Pattern of PyYAML's message, the problem in plain words, and a hint; the first match counts.
_EXPLANATIONS = (
    (r"character '\\t'", "a tab, where YAML allows only spaces", "indent with spaces"),
    (
        r"character '(?P<found>.)' that cannot start",
        "text cannot begin with {found!r}",
        "put it in quotes",
    ),
    (
        r"mapping values are not allowed",
        "a ':' where no key is allowed",
        "check the indentation; put text that contains ': ' in quotes",
    ),
    (
        r"could not find expected ':'",
        "a key without ':'",
        "write 'key: value'; put text of several lines in quotes",
    ),
    (
        r"chomping or indentation indicators|expected a comment or a line break",
        "a value that begins with '>' or '|' is read as a block of text",
        'put it in quotes: "> 0.9"',
    ),
    (r"found unexpected end of stream", "the quote that opens here is never closed", "close it"),
    (
        r"expected ',' or '(?P<found>.)'",
        "the bracket that opens here has no ',' or '{found}'",
        "close it; put text with brackets in quotes, also '${{NAME}}' between brackets",
    ),
    (
        r"expected <block end>|did not find expected|expected the node content|no more expected",
        "this line does not match the structure of the lines above it",
        "check the indentation and the '-' of list entries",
    ),
    (
        r"found undefined alias '(?P<found>[^']*)'",
        "the alias '*{found}' is not defined",
        "write '&{found}' before the value, earlier in the file",
    ),
    (
        r"found duplicate anchor",
        "the anchor name after '&' is used twice",
        "give the second one another name",
    ),
    (
        r"expected a single document|but found another document|expected '<document start>'",
        "a second document, or text after the end of the first",
        "a recipe is one document: remove the line '---', or check the indentation",
    ),
    (r"unknown escape character", "an unknown escape in double quotes", "use single quotes"),
)
_OPENED = r"could not find expected ':'|found unexpected end of stream|expected ',' or"


def malformed(error: yaml.YAMLError, text: str, location_of: Callable[[int], str]) -> RecipeError:
    """Return the error for `text`, which PyYAML rejected with `error`."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return RecipeError(
            f"the character {chr(error.character)!a} is not allowed in a recipe",
            where=location_of(line),
            hint='remove it, or write it as an escape in double quotes: "\\u0000"',
        )
    problem = getattr(error, "problem", None) or str(error)
    marks = [getattr(error, name, None) for name in ("problem_mark", "context_mark")]
    if re.search(_OPENED, problem):  # the opening line helps more than the line of the failure
        marks.reverse()
    where = location_of(next((mark.line + 1 for mark in marks if mark), 1))
    for pattern, what, hint in _EXPLANATIONS:
        if found := re.search(pattern, problem):
            words = found.groupdict()
            return RecipeError(what.format(**words), where=where, hint=hint.format(**words))
    return RecipeError(f"this is not well-formed YAML: {problem!a}", where=where)
