"""The tables of `docs/coming-from.md` equal those of the code; run as a script, this file writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aligner.host import Host
from aligner.options.fields import fields_at
from aligner.options.row_operations import with_operations
from aligner_import.axolotl import AXOLOTL
from aligner_import.importer import Importer
from aligner_import.llama_factory import LLAMA_FACTORY
from aligner_import.rules import Rule
from aligner_import.trl import TRL

IMPORTERS = {importer.name: importer for importer in (LLAMA_FACTORY, AXOLOTL, TRL)}
PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
BLOCK = re.compile(r"(<!-- settings of (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(importer: Importer) -> str:
    """Render the tables of a tool's settings."""
    imported = [rule for rule in importer.rules if rule.composed or rule.to]
    lines = ["| setting | here | what is different |", "|---|---|---|"]
    lines += [f"| `{rule.key}` | {_equivalent(rule)} | {rule.differs} |" for rule in imported]
    for title, why in (("no counterpart", "unsupported"), ("not needed", "ignored")):
        lines += ["", f"| {title} | why |", "|---|---|"]
        lines += [f"| {', '.join(keys)} | {text} |" for text, keys in _grouped(importer, why)]
    return "\n" + "\n".join(lines) + "\n\n"


def _equivalent(rule: Rule) -> str:
    option = rule.composed or f"`{rule.to}`"
    return f"{option} (of {', '.join(sorted(rule.methods))})" if rule.methods else option


def _grouped(importer: Importer, why: str) -> Iterator[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for rule in importer.rules:
        if text := getattr(rule, why):
            note = f"{text}; such a file is refused" if rule.decides else text
            groups.setdefault(note, []).append(f"`{rule.key}`")
    yield from groups.items()


def with_tables(page: str) -> str:
    """Return the page with its tables replaced by those of the code."""
    return BLOCK.sub(lambda found: found[1] + tables(IMPORTERS[found["name"]]) + found[3], page)


def test_the_tables_equal_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert [found["name"] for found in BLOCK.finditer(page)] == list(IMPORTERS)
    assert page == with_tables(page)


@pytest.mark.parametrize("name", IMPORTERS)
def test_the_option_of_every_rule_exists(name: str) -> None:
    """In each stage that the rule applies to; in some stage if it applies to all."""
    host = Host.discover()
    operations = host.registry().row_operations
    stages = {
        name: with_operations(stage.Options, operations) for name, stage in host.stages().items()
    }
    for rule in IMPORTERS[name].rules:
        area, _, option = rule.to.partition(".")
        if not rule.to or area == "recipe":
            continue
        if area == "chat":
            assert option in stages["chat"].model_fields, rule.key
            continue
        *above, last = rule.to.split(".")
        with_option = {n for n, s in stages.items() if last in fields_at(s, tuple(above))}
        assert rule.methods <= with_option, rule.key
        assert with_option, rule.key


@pytest.mark.parametrize("name", IMPORTERS)
def test_no_setting_has_two_rules_for_the_same_stage(name: str) -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    for rule in IMPORTERS[name].rules:
        assert (rule.key, rule.methods) not in seen, rule.key
        seen.add((rule.key, rule.methods))


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), encoding="utf-8")
