"""The tables of `docs/coming-from.md` are those of the code, as this file, run by itself, writes them."""

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

PEERS = {peer.name: peer for peer in (LLAMA_FACTORY, AXOLOTL, TRL)}
PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
BLOCK = re.compile(r"(<!-- settings of (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(peer: Importer) -> str:
    """What the page says of a tool's settings."""
    taken = [rule for rule in peer.rules if rule.part or rule.to]
    lines = ["| setting | here | what is different |", "|---|---|---|"]
    lines += [f"| `{one.key}` | {_here(one)} | {one.differs} |" for one in taken]
    for title, why in (("no counterpart", "unsupported"), ("not needed", "ignored")):
        lines += ["", f"| {title} | why |", "|---|---|"]
        lines += [f"| {', '.join(keys)} | {text} |" for text, keys in _grouped(peer, why)]
    return "\n" + "\n".join(lines) + "\n\n"


def _here(rule: Rule) -> str:
    said = rule.part or f"`{rule.to}`"
    return f"{said} (of {', '.join(sorted(rule.methods))})" if rule.methods else said


def _grouped(peer: Importer, why: str) -> Iterator[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for rule in peer.rules:
        if text := getattr(rule, why):
            note = f"{text}; such a file is refused" if rule.decides else text
            groups.setdefault(note, []).append(f"`{rule.key}`")
    yield from groups.items()


def written(page: str) -> str:
    return BLOCK.sub(lambda found: found[1] + tables(PEERS[found["name"]]) + found[3], page)


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert [found["name"] for found in BLOCK.finditer(page)] == list(PEERS)
    assert page == written(page)


@pytest.mark.parametrize("name", PEERS)
def test_every_rule_leads_to_an_option_there_is(name: str) -> None:
    """Of each stage that it is for, where it is for some; else of any stage."""
    host = Host.discover()
    operations = host.registry().row_operations
    stages = {n: with_operations(one.Options, operations) for n, one in host.stages().items()}
    for rule in PEERS[name].rules:
        area, _, rest = rule.to.partition(".")
        if not rule.to or area == "recipe":
            continue
        if area == "chat":
            assert rest in stages["chat"].model_fields, rule.key
            continue
        *above, last = rule.to.split(".")
        having = {n for n, s in stages.items() if last in fields_at(s, tuple(above))}
        assert rule.methods <= having, rule.key
        assert having, rule.key


@pytest.mark.parametrize("name", PEERS)
def test_no_setting_is_said_twice_for_one_stage(name: str) -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    for rule in PEERS[name].rules:
        assert (rule.key, rule.methods) not in seen, rule.key
        seen.add((rule.key, rule.methods))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), encoding="utf-8")
