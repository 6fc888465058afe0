"""Make text fit for a terminal: no control characters, no secrets, numbers people can read."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")
_SHORTEST_SECRET = 6
"""Shorter values ("1", "yes") are no secrets, and hiding them would garble every text."""


def clean(text: str) -> str:
    """`text` with control and direction characters written out, lines and tabs left as they are.

    >>> clean("a\\x1b[31mb\\u202e")
    'a\\\\x1b[31mb\\\\u202e'
    """
    return "".join(one if _harmless(one) else _written_out(one) for one in text)


def one_line(text: str) -> str:
    """`text` cleaned, and on one line."""
    return clean(" ".join(text.split()))


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text` without the values of variables whose names end in TOKEN, KEY, SECRET or PASSWORD."""
    for name, value in environment.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name):
            text = text.replace(value, f"[{name} hidden]")
    return _HUB_TOKEN.sub("[hub token hidden]", text)


def safe(text: str) -> str:
    """`text` as it may be shown: cleaned, and without secrets."""
    return clean(without_secrets(text))


def format_number(value: float) -> str:
    """A measured number with four digits that count.

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


def count(value: int | None) -> str:
    """A whole number of rows or steps, exact up to 999,999; empty where unknown.

    >>> count(120_500), count(1_234_567), count(None)
    ('120,500', '1.23M', '')
    """
    if value is not None and abs(value) < 10**6:
        return f"{value:,}"
    return amount(value)


def amount(value: int | None) -> str:
    """A number of tokens or parameters, of which three digits say enough; empty where unknown.

    >>> amount(9_999), amount(260_032), amount(8_030_261_248), amount(None)
    ('9,999', '260k', '8.03B', '')
    """
    if value is None:
        return ""
    for size, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if abs(value) >= max(size, 10**4):
            return f"{value / size:.3g}{letter}"
    return f"{value:,}"


def duration(seconds: float) -> str:
    """A time span.

    >>> duration(0.42), duration(12.3), duration(75), duration(7500), duration(200_000)
    ('0.4 s', '12.3 s', '1 min 15 s', '2 h 05 min', '2 d 7 h')
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


def size(octets: int) -> str:
    """An amount of storage.

    >>> size(512), size(2_500_000), size(3 * 10**9)
    ('512 B', '2.5 MB', '3.0 GB')
    """
    if octets < 1000:
        return f"{octets} B"
    value = float(octets)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def format_metrics(values: Mapping[str, float], *, most: int | None = None) -> list[str]:
    """Each metric as `name value`, the first `most` of them and how many more there are."""
    shown = [f"{one_line(name)} {format_number(value)}" for name, value in values.items()]
    if most is not None and len(shown) > most + 1:
        return [*shown[:most], f"and {len(shown) - most} more"]
    return shown


def _harmless(one: str) -> bool:
    return (
        one in "\n\t"
        or one == " "
        or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )


def _written_out(one: str) -> str:
    number = ord(one)
    return (
        f"\\x{number:02x}"
        if number < 256
        else f"\\u{number:04x}"
        if number < 65536
        else f"\\U{number:08x}"
    )
