"""What the installed plugins offer: a line for each stage, or a page on one."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from aligner.host import Host
from aligner.options.fields import first_sentence, nested_models
from aligner.options.stage_page import describe_stage, options_of
from aligner.stage import Stage
from aligner.terminal.console import NARROW, Joined, indented, line, table
from aligner.terminal.text import one_line, safe

_PROSE = 6
"""Columns before the lines of `describe_stage` that are prose, and may be filled anew."""


def listing(host: Host, console: Console) -> RenderableType:
    """Every stage with its plugin, what else there is, and what is not in use."""
    registry = host.registry()
    stages = [
        (name, _says(stage), host.plugin_version(name))
        for name, stage in sorted(host.stages().items())
    ]
    parts: list[RenderableType] = [_rows("stage", stages, console)]
    for title, found in (
        ("reward function", registry.reward_functions),
        ("data source", registry.data_sources),
    ):
        if found:
            rows = [(name, _says(one), "") for name, one in sorted(found.items())]
            parts += ["", _rows(title, rows, console)]
    if registry.data_formats:
        rows = [(name, one.kind, "") for name, one in sorted(registry.data_formats.items())]
        parts += ["", _rows("data format", rows, console)]
    if host.aside:
        parts += ["", line(("not in use", "bold"))]
        for reason in dict.fromkeys(one.reason for one in host.aside):
            names = [f"{a.name} ({a.source})" for a in host.aside if a.reason == reason]
            parts += [indented(Joined(names), by=2), indented(Text(one_line(reason)), by=4)]
    return Group(*parts)


def listing_json(host: Host) -> dict[str, Any]:
    """The same for programs."""
    registry = host.registry()
    return {
        "stages": [
            {"stage": name, "says": _says(stage), "plugin": host.plugin_version(name)}
            for name, stage in sorted(host.stages().items())
        ],
        "reward_functions": _said(registry.reward_functions),
        "data_sources": _said(registry.data_sources),
        "data_formats": {name: one.kind for name, one in sorted(registry.data_formats.items())},
        "plugins": dict(sorted(host.plugins().items())),
        "not_in_use": [asdict(one) for one in host.aside],
    }


def page(stage: type[Stage[Any]], host: Host, console: Console) -> RenderableType:
    """All there is to know about one stage before using it."""
    lines = _filled(safe(describe_stage(stage)), console.width)
    text = Text("\n".join(lines).rstrip())
    text.highlight_regex(r"^  \w+(?=: )", "cyan")
    return Group(text, "", line((f"offered by plugin {host.plugin_version(stage.name)}", "dim")))


def page_json(stage: type[Stage[Any]], host: Host) -> dict[str, Any]:
    """The same for programs."""
    return {
        "stage": stage.name,
        "says": inspect.getdoc(stage) or "",
        "plugin": host.plugin_version(stage.name),
        "options": [asdict(one) for one in options_of(stage.Options)],
        "models": {
            model.__name__: [asdict(one) for one in options_of(model)]
            for model in nested_models(stage.Options)
        },
    }


def _rows(title: str, rows: list[tuple[str, str, str]], console: Console) -> RenderableType:
    """Things with what they say of themselves, and who offers them where that is told."""
    if console.width < NARROW:
        blocks: list[RenderableType] = [line((f"{title}s", "bold"))]
        for name, says, plugin_version in rows:
            blocks.append(
                indented(line((name, "cyan"), (f"  {plugin_version}".rstrip(), "dim")), by=2)
            )
            blocks.append(indented(Text(says), by=4))
        return Group(*blocks)
    columns = [(title, "left"), ("what it does", "left")]
    made = table([*columns, ("plugin", "left")] if any(row[2] for row in rows) else columns)
    for name, says, plugin_version in rows:
        made.add_row(
            line((name, "cyan")),
            Text(says),
            *([line((plugin_version, "dim"))] if plugin_version else []),
        )
    return made


def _said(found: Mapping[str, type[Any]]) -> dict[str, str]:
    return {name: _says(one) for name, one in sorted(found.items())}


def _says(thing: type[Any]) -> str:
    return safe(first_sentence(inspect.getdoc(thing) or "")) or "(not written up)"


def _filled(text: str, width: int) -> Iterator[str]:
    """`text` with its prose filled to `width`, and longer lines broken."""
    prose: list[str] = []
    for row in [*text.splitlines(), ""]:
        if row.startswith(" " * _PROSE):
            prose.append(row.strip())
            continue
        if prose:
            yield from _wrapped(" ".join(prose), width, by=_PROSE)
            prose = []
        indent = len(row) - len(row.lstrip())
        yield from _wrapped(row.strip(), width, by=indent) if row.strip() else [""]


def _wrapped(text: str, width: int, *, by: int) -> list[str]:
    deeper = " " * (by if by == _PROSE else by + 2)
    return textwrap.wrap(
        text, width, initial_indent=" " * by, subsequent_indent=deeper, break_on_hyphens=False
    )
