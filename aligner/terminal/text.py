"""Format text for a terminal: escaped control characters, hidden secrets, readable numbers."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")
_MIN_SECRET_LENGTH = 6
"""Shorter values ("1", "yes") are not secrets; hiding them would garble every text."""
CONTROL_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that can change what a terminal does or shows."""


def escape_controls(text: str) -> str:
    """Return `text` with control and direction characters escaped, except newlines and tabs.

    >>> escape_controls("a\\x1b[31mb\\u202e")
    'a\\\\x1b[31mb\\\\u202e'
    """
    return "".join(char if _is_printable(char) else _escape(char) for char in text)


def one_line(text: str) -> str:
    """Return `text` escaped and on one line."""
    return escape_controls(" ".join(text.split()))


def hide_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return `text` without the values of variables named …TOKEN, …KEY, …SECRET or …PASSWORD."""
    for name, value in environment.items():
        if len(value) >= _MIN_SECRET_LENGTH and _SECRET_NAME.search(name):
            text = text.replace(value, f"[{name} hidden]")
    return _HUB_TOKEN.sub("[hub token hidden]", text)


def sanitize(text: str) -> str:
    """Return `text` escaped and without secrets."""
    return escape_controls(hide_secrets(text))


def format_number(value: float) -> str:
    """Format a metric with four significant digits.

    >>> format_number(0.693147), format_number(2e-05), format_number(12345.6)
    ('0.6931', '2e-05', '12,346')
    >>> format_number(3.0), format_number(float("nan"))
    ('3', 'nan')
    """
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_count(value: int | None) -> str:
    """Format a number of rows or steps, exact up to 999,999; empty if unknown.

    >>> format_count(120_500), format_count(1_234_567), format_count(None)
    ('120,500', '1.23M', '')
    """
    if value is not None and abs(value) < 10**6:
        return f"{value:,}"
    return format_amount(value)


def format_amount(value: int | None) -> str:
    """Format a number of tokens or parameters with three digits; empty if unknown.

    >>> format_amount(9_999), format_amount(260_032), format_amount(8_030_261_248), format_amount(None)
    ('9,999', '260k', '8.03B', '')
    """
    if value is None:
        return ""
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= max(unit, 10**4):
            return f"{value / unit:.3g}{letter}"
    return f"{value:,}"


def format_duration(seconds: float) -> str:
    """Format a time span.

    >>> [format_duration(seconds) for seconds in (0.42, 12.3, 75, 7500, 200_000)]
    ['0.4 s', '12.3 s', '1 min 15 s', '2 h 05 min', '2 d 7 h']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s"


def format_size(num_bytes: int) -> str:
    """Format an amount of storage.

    >>> format_size(512), format_size(2_500_000), format_size(3 * 10**9)
    ('512 B', '2.5 MB', '3.0 GB')
    """
    if num_bytes < 1000:
        return f"{num_bytes} B"
    value = float(num_bytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def format_metrics(values: Mapping[str, float], *, most: int | None = None) -> list[str]:
    """Return each metric as `name value`; after the first `most`, only the number of the others."""
    shown = [f"{one_line(name)} {format_number(value)}" for name, value in values.items()]
    if most is not None and len(shown) > most + 1:
        return [*shown[:most], f"and {len(shown) - most} more"]
    return shown


def _is_printable(char: str) -> bool:
    return char in "\n\t" or unicodedata.category(char) not in CONTROL_CATEGORIES


def _escape(char: str) -> str:
    number = ord(char)
    if number < 256:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
