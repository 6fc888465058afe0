"""Replace personal data and secrets in texts by the name of their kind, such as `[email]`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from aligner import OperationContext, RowOperation
from aligner.kit.declare import DataError
from aligner.kit.rows import Prompt, Row, map_texts
from aligner_curation.options import Redact, RedactKind

R = TypeVar("R", bound=Row)
Replace = Callable[[str], str]

_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.)+[A-Za-z]{2,24}(?![\w-])"
)
_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
_KEYS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[A-Za-z0-9_-]{20,}"
    r"|sk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic and those that follow them
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|AIza[A-Za-z0-9_-]{35}"  # Google
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON web tokens
    r")(?![A-Za-z0-9_-])"
)
_NAMED_KEY = re.compile(
    r"(?i)((?:api|access|auth|secret|client|private)[_-]?(?:key|token|secret)|passw(?:or)?d|secret|token)"
    r"([\"']?\s{0,3}[:=]\s{0,3}[\"']?)([A-Za-z0-9_\-./+=!@#$%^&*]{8,})"
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-])")
_ISSUED = re.compile(  # first digits and lengths of the numbers of large issuers
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7]|35)\d{14}|3[47]\d{13}|3[068]\d{12}|6\d{15,18}"
)
_IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)"
    r"|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:]))"
)
_DIGIT = re.compile(r"\d")
_WITH_DIGITS = frozenset({"iban", "card", "ip", "phone"})
_DIGITS = re.compile(r"\d(?:\D{0,3}\d){6}")


class RedactRows(RowOperation):
    """Replace personal data and secrets in all turns: `true`, a list such as `[email, phone]`, or options."""

    name = "redact"
    Options = Redact
    scope = "entry"
    order = 20
    findings: ClassVar = {
        "redacted_email": "had an e-mail address replaced",
        "redacted_phone": "had a phone number replaced",
        "redacted_key": "had a key or password replaced",
        "redacted_ip": "had an IP address replaced",
        "redacted_card": "had the number of a payment card replaced",
        "redacted_iban": "had a bank account replaced",
    }

    def apply(self, rows: Iterator[Row], context: OperationContext) -> Iterator[Row]:
        """Yield the rows, redacted in all texts, tool calls and other columns; twice is as good as once.

        Rows are counted by kind; no content is in the ledger.

        Raises:
            DataError: `phone` needs a library that is not installed, or the region does not exist.
        """
        found: set[RedactKind] = set()
        redact = redactor(self.options, found, context.where)
        for row in rows:
            found.clear()
            redacted = _redact_row(row, redact)
            for kind in self.options.kinds:
                if kind in found:
                    context.ledger.find(f"redacted_{kind}", row.origin)
            yield redacted


def redactor(options: Redact, found: set[RedactKind], where: str) -> Replace:
    """Return a function that redacts one text and adds the kinds that it replaced to `found`."""
    makers: Mapping[RedactKind, Callable[[], Replace]] = {
        "key": lambda: _keys,
        "email": lambda: lambda text: _EMAIL.sub("[email]", text) if "@" in text else text,
        "iban": lambda: lambda text: _IBAN.sub(_iban, text),
        "card": lambda: lambda text: _CARD.sub(_card, text),
        "ip": lambda: lambda text: _IP.sub(_ip, text),
        "phone": lambda: _phones(options.region, where),
    }
    # The order matters: the number of a card may look like a telephone number.
    steps = [(kind, make()) for kind, make in makers.items() if kind in options.kinds]

    def redact(text: str) -> str:
        has_digit = _DIGIT.search(text) is not None
        for kind, step in steps:
            if not has_digit and kind in _WITH_DIGITS:
                continue
            new = step(text)
            if new != text:
                found.add(kind)
                text = new
        return text

    return redact


def _redact_row(row: R, change: Replace) -> R:
    row = map_texts(row, change)
    new: dict[str, Any] = {}
    for name in ("messages", "prompt", "chosen", "rejected", "completion"):
        turns = getattr(row, name, None)
        if turns and any(turn.get("tool_calls") for turn in turns):
            new[name] = tuple(
                {**turn, "tool_calls": _within(turn["tool_calls"], change)}
                if turn.get("tool_calls")
                else turn
                for turn in turns
            )
    if isinstance(row, Prompt) and row.row:
        new["row"] = _within(row.row, change)
    return replace(row, **new) if any(getattr(row, n) != v for n, v in new.items()) else row


def _within(value: Any, change: Replace) -> Any:
    """Return `value` with all texts in it changed at any depth; keys of mappings stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _within(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_within(item, change) for item in value)
    return value


def _keys(text: str) -> str:
    if "PRIVATE KEY" in text:
        text = _PEM.sub("[key]", text)
    text = _KEYS.sub("[key]", text)
    # Most texts contain none of these words, and this check is ten times as fast as the pattern.
    lower = text.lower()
    mentioned = any(word in lower for word in ("key", "token", "secret", "passw"))
    return _NAMED_KEY.sub(_named_key, text) if mentioned else text


def _named_key(match: re.Match[str]) -> str:
    value = match[3]
    # A value of letters alone is the name of a variable or file: a secret mixes letters and digits.
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    secret = mixed and (len(value) >= 16 or match[1].lower().startswith("passw"))
    return f"{match[1]}{match[2]}[key]" if secret else match[0]


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match[0] if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(reversed(digits))]
    valid = sum(doubled) % 10 == 0 and len(set(digits)) > 1  # Luhn's check
    return "[card]" if valid and _ISSUED.fullmatch("".join(map(str, digits))) else match[0]


def _iban(match: re.Match[str]) -> str:
    compact = match[0].replace(" ", "")
    turned = compact[4:] + compact[:4]
    number = int("".join(str(int(c, 36)) for c in turned))  # ISO 13616: letters are 10 to 35
    return "[iban]" if number % 97 == 1 and 15 <= len(compact) <= 34 else match[0]


def _ip(match: re.Match[str]) -> str:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return match[0]
    if address.version == 6 and sum(map(bool, match[0].split(":"))) < 3:
        return match[0]  # as `a::b` is in code
    # Addresses for documentation, private networks and the local machine identify nobody.
    return "[ip]" if address.is_global else match[0]


def _phones(region: str | None, where: str) -> Replace:
    try:
        import phonenumbers  # an optional dependency
    except ImportError:
        what = "finding phone numbers needs phonenumbers, which is not installed"
        hint = "pip install aligner[curation], or name other kinds: `redact: [email, key]`"
        raise DataError(what, where=where, hint=hint) from None
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        what = f"redact.region: there is no region {region!r}"
        hint = "give a country by its two letters, such as US"
        raise DataError(what, where=where, hint=hint)

    def replace_phones(text: str) -> str:
        international = "+" in text or "\uff0b" in text
        if not _DIGITS.search(text) or (region is None and not international):
            return text
        pieces, end = [], 0
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            pieces += [text[end : match.start], "[phone]"]
            end = match.end
        return "".join([*pieces, text[end:]])

    return replace_phones
