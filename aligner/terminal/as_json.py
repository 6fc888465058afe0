"""Write values as JSON that any reader takes and no terminal is steered by."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from aligner.terminal.text import without_secrets

_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")


def json_line(row: Any) -> str:
    """`row` as one line; characters that steer a terminal, or are half of one, are escaped.

    >>> json_line({"said": "café \\x9b\\u202e"})
    '{"said": "café \\\\u009b\\\\u202e"}'
    """
    return _escaped(json.dumps(row, ensure_ascii=False, default=str))


def json_page(value: Any) -> str:
    """`value` indented for people, escaped like a line, and without secrets.

    >>> print(json_page({"said": "\\x9b31m"}))
    {
      "said": "\\u009b31m"
    }
    """
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return without_secrets("\n".join(map(_escaped, lines)))


def _escaped(text: str) -> str:
    return "".join(
        one if unicodedata.category(one) not in _STEERING else _escape(one) for one in text
    )


def _escape(one: str) -> str:
    return json.dumps(one)[1:-1] if one != "\x7f" else "\\u007f"
