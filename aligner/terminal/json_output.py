"""Print values as JSON, without secrets and with control characters escaped."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from aligner.terminal.text import CONTROL_CATEGORIES, hide_secrets


def json_line(value: Any) -> str:
    """Return `value` as one line; control characters and lone surrogates are escaped.

    >>> json_line({"text": "café \\x9b\\u202e"})
    '{"text": "café \\\\u009b\\\\u202e"}'
    """
    return _escape(json.dumps(value, ensure_ascii=False, default=str))


def json_page(value: Any) -> str:
    """Return `value` as indented JSON, escaped like a line and without secrets.

    >>> print(json_page({"text": "\\x9b31m"}))
    {
      "text": "\\u009b31m"
    }
    """
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return hide_secrets("\n".join(map(_escape, lines)))


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    print(json_page(value))


def _escape(text: str) -> str:
    return "".join(
        char if unicodedata.category(char) not in CONTROL_CATEGORIES else _escape_char(char)
        for char in text
    )


def _escape_char(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
