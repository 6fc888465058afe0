"""Clean texts: white space, control characters, Unicode, HTML; and leave out rows by filters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from html import unescape
from typing import ClassVar

from aligner import OperationContext, RowOperation
from aligner.kit.rows import Row, map_texts
from aligner_curation.filters import row_filters
from aligner_curation.options import Clean

# Joiners (U+200C, U+200D) are kept: Persian, Indic scripts and emoji need them. So are the
# marks of direction, without which Arabic and Hebrew are shown in disorder.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_ESCAPE = re.compile("\x1b\\[[0-9;?]*[ -/]*[@-~]")
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANKS = " \t\u00a0\u3000"
_BLANK_LINES = re.compile(r"\n{4,}")
_FENCED = re.compile(r"(^[ \t]*```.*?(?:^[ \t]*```[ \t]*$|\Z))", re.DOTALL | re.MULTILINE)


class CleanRows(RowOperation):
    """Clean the text of all turns, and leave out rows by length, language, pattern or repetition."""

    name = "clean"
    Options = Clean
    scope = "entry"
    order = 10
    findings: ClassVar = {"cleaned": "were cleaned"}

    def apply(self, rows: Iterator[Row], context: OperationContext) -> Iterator[Row]:
        """Yield the cleaned rows that no filter leaves out.

        Raises:
            DataError: a library is not installed, or a pattern is invalid or too slow.
        """
        clean, filters = cleaner(self.options), row_filters(self.options, context)
        for row in rows:
            cleaned = map_texts(row, clean)
            reason = next((found for row_filter in filters if (found := row_filter(cleaned))), "")
            if reason:
                context.ledger.leave_out(reason, row.origin)
                continue
            if cleaned is not row:
                context.ledger.find("cleaned", row.origin)
            yield cleaned


def cleaner(options: Clean) -> Callable[[str], str]:
    """Return a function that cleans one text; HTML aside, applying it twice changes nothing more."""
    steps: list[Callable[[str], str]] = []
    if options.html:
        steps.append(_outside_code(without_html))
    if options.control:  # which HTML may contain as entities
        steps.append(_without_control)
    form = options.unicode
    if form != "keep":
        steps.append(lambda text: text if text.isascii() else unicodedata.normalize(form, text))
    if options.whitespace != "keep":
        steps.append(_tidy if options.whitespace == "tidy" else _outside_code(_collapse))
    if options.whitespace == "collapse":
        steps.append(_tidy)

    def clean(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return clean


def _without_control(text: str) -> str:
    if not _CONTROL.search(text):  # one character class is several times as fast as two patterns
        return text
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def _tidy(text: str) -> str:
    if "\r" in text or not text.isascii():
        text = _LINE_ENDS.sub("\n", text)
    lines = [line.rstrip(_BLANKS) for line in text.split("\n")]
    first = next((number for number, line in enumerate(lines) if line), len(lines))
    text = "\n".join(lines[first:]).rstrip()
    return _BLANK_LINES.sub("\n\n\n", text) if "\n\n\n\n" in text else text


def _collapse(text: str) -> str:
    lines = [" ".join(line.split()) for line in _LINE_ENDS.sub("\n", text).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _outside_code(change: Callable[[str], str]) -> Callable[[str], str]:
    """The same change for all but fenced code."""

    def outside(text: str) -> str:
        if "```" not in text:
            return change(text)
        pieces = _FENCED.split(text)
        return "".join(piece if i % 2 else change(piece) for i, piece in enumerate(pieces))

    return outside


_BLOCK_NAMES = (
    "address article aside blockquote body br center dd details dialog div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 head header hr html li main menu nav ol option p pre section "
    "summary table tbody td tfoot th thead tr ul"
)
_INLINE_NAMES = (
    "a abbr acronym audio b bdi bdo big button caption canvas cite code col colgroup data datalist del "
    "dfn em embed font i iframe img input ins kbd label legend link map mark meta meter noscript object "
    "optgroup output param picture progress q rp rt ruby s samp select small source span strike strong "
    "sub sup svg textarea time tt u var video wbr"
)
_BLOCKS, _INLINE = frozenset(_BLOCK_NAMES.split()), frozenset(_INLINE_NAMES.split())
_HIDING = ("script", "style", "title", "template")
_UNSHOWN = re.compile(rf"<({'|'.join(_HIDING)})\b[^<>]*>|<!--", re.IGNORECASE)
_CLOSING = {
    "": re.compile("-->"),
    **{name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in _HIDING},
}
# Neither may hold a `<`, so that a search for one ends where the next begins.
_TAG = re.compile(r"</?([a-z][a-z0-9]*)\b[^<>]*>|<!doctype\b[^<>]*>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)


def without_html(text: str) -> str:
    """The text that HTML shows; blocks begin on lines of their own, scripts and styles are left out.

    What is no tag of HTML's stays as it is written.

    >>> without_html("<p>Fish &amp; <b>chips</b></p><p>if a < b: List<int></p>")
    'Fish & chips\\nif a < b: List<int>\\n'
    """
    if "<" not in text and "&" not in text:
        return text
    text = _without_unshown(text)
    pieces: list[str] = []
    end, last = 0, ""
    for tag in _TAG.finditer(text):
        name = (tag[1] or "").lower()
        if name and name not in _BLOCKS and name not in _INLINE:
            continue
        pieces.append(text[end : tag.start()])
        end = tag.end()
        last = pieces[-1][-1:] or last
        if name == "br" or (name in _BLOCKS and last not in ("", "\n")):
            pieces.append("\n")
            last = "\n"
    shown = "".join([*pieces, text[end:]])
    return _ENTITY.sub(lambda entity: unescape(entity[0]), shown)


def _without_unshown(text: str) -> str:
    """Comments, scripts, styles and the like left out; one that is not closed is only spoken of."""
    kept, end, unclosed = [], 0, set()
    for opening in _UNSHOWN.finditer(text):
        name = (opening[1] or "").lower()
        if opening.start() < end or name in unclosed:
            continue
        closing = _CLOSING[name].search(text, opening.end())
        if closing is None:
            unclosed.add(name)
        else:
            kept.append(text[end : opening.start()])
            end = closing.end()
    return "".join([*kept, text[end:]])
