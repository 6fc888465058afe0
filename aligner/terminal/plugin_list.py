"""Render the stages and other extensions of the installed plugins, or one stage."""

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
from aligner.options.row_operations import with_operations
from aligner.options.stage_page import describe_stage, options_of
from aligner.stage import Stage
from aligner.terminal.console import NARROW, InlineList, indent, make_table, styled_line
from aligner.terminal.text import one_line, sanitize

_TEXT_INDENT = 6
"""Indentation of the lines of `describe_stage` that may be wrapped."""


def render_plugin_list(host: Host, console: Console) -> RenderableType:
    """Render every stage with its plugin, other extensions, and the plugins that are not used."""
    registry = host.registry()
    stages = [
        (name, _first_sentence(stage), host.plugin_version(name))
        for name, stage in sorted(host.stages().items())
    ]
    parts: list[RenderableType] = [_table("stage", stages, console)]
    for title, classes in (
        ("reward function", registry.reward_functions),
        ("data source", registry.data_sources),
    ):
        if classes:
            rows = [(name, _first_sentence(kind), "") for name, kind in sorted(classes.items())]
            parts += ["", _table(title, rows, console)]
    if registry.row_operations:
        rows = [
            (name, _first_sentence(installed.operation), installed.plugin)
            for name, installed in sorted(registry.row_operations.items())
        ]
        parts += ["", _table("row operation", rows, console)]
    if registry.data_formats:
        rows = [(name, entry.kind, "") for name, entry in sorted(registry.data_formats.items())]
        parts += ["", _table("data format", rows, console)]
    if host.disabled:
        parts += ["", styled_line(("not in use", "bold"))]
        for reason in dict.fromkeys(plugin.reason for plugin in host.disabled):
            names = [f"{p.name} ({p.source})" for p in host.disabled if p.reason == reason]
            parts += [indent(InlineList(names), by=2), indent(Text(one_line(reason)), by=4)]
    return Group(*parts)


def plugin_list_json(host: Host) -> dict[str, Any]:
    """Return the list as values for JSON."""
    registry = host.registry()
    return {
        "stages": [
            {
                "stage": name,
                "description": _first_sentence(stage),
                "plugin": host.plugin_version(name),
            }
            for name, stage in sorted(host.stages().items())
        ],
        "reward_functions": _descriptions(registry.reward_functions),
        "data_sources": _descriptions(registry.data_sources),
        "row_operations": _descriptions(
            {name: installed.operation for name, installed in registry.row_operations.items()}
        ),
        "data_formats": {name: f.kind for name, f in sorted(registry.data_formats.items())},
        "plugins": dict(sorted(host.plugins().items())),
        "not_in_use": [asdict(plugin) for plugin in host.disabled],
    }


def render_stage(stage: type[Stage[Any]], host: Host, console: Console) -> RenderableType:
    """Render the description and all options of a stage."""
    lines = _fill(sanitize(describe_stage(stage, host.registry().row_operations)), console.width)
    text = Text("\n".join(lines).rstrip())
    text.highlight_regex(r"^  \w+(?=: )", "cyan")
    return Group(text, "", styled_line((f"plugin {host.plugin_version(stage.name)}", "dim")))


def stage_json(stage: type[Stage[Any]], host: Host) -> dict[str, Any]:
    """Return the description and all options of a stage as values for JSON."""
    options = with_operations(stage.Options, host.registry().row_operations)
    return {
        "stage": stage.name,
        "description": inspect.getdoc(stage) or "",
        "plugin": host.plugin_version(stage.name),
        "options": [asdict(option) for option in options_of(options)],
        "models": {
            model.__name__: [asdict(option) for option in options_of(model)]
            for model in nested_models(options)
        },
    }


def _table(title: str, rows: list[tuple[str, str, str]], console: Console) -> RenderableType:
    """Render rows of name, description and plugin; the last column only if it is not empty."""
    if console.width < NARROW:
        blocks: list[RenderableType] = [styled_line((f"{title}s", "bold"))]
        for name, description, plugin in rows:
            heading = styled_line((name, "cyan"), (f"  {plugin}".rstrip(), "dim"))
            blocks += [indent(heading, by=2), indent(Text(description), by=4)]
        return Group(*blocks)
    columns = [(title, "left"), ("description", "left")]
    table = make_table([*columns, ("plugin", "left")] if any(row[2] for row in rows) else columns)
    for name, description, plugin in rows:
        last = [styled_line((plugin, "dim"))] if plugin else []
        table.add_row(styled_line((name, "cyan")), Text(description), *last)
    return table


def _descriptions(classes: Mapping[str, type[Any]]) -> dict[str, str]:
    return {name: _first_sentence(kind) for name, kind in sorted(classes.items())}


def _first_sentence(kind: type[Any]) -> str:
    return sanitize(first_sentence(inspect.getdoc(kind) or "")) or "(no description)"


def _fill(text: str, width: int) -> Iterator[str]:
    """Wrap the paragraphs and long lines of `text` at `width`."""
    paragraph: list[str] = []
    for row in [*text.splitlines(), ""]:
        if row.startswith(" " * _TEXT_INDENT):
            paragraph.append(row.strip())
            continue
        if paragraph:
            yield from _wrap(" ".join(paragraph), width, by=_TEXT_INDENT)
            paragraph = []
        indent = len(row) - len(row.lstrip())
        yield from _wrap(row.strip(), width, by=indent) if row.strip() else [""]


def _wrap(text: str, width: int, *, by: int) -> list[str]:
    next_indent = " " * (by if by == _TEXT_INDENT else by + 2)
    return textwrap.wrap(
        text, width, initial_indent=" " * by, subsequent_indent=next_indent, break_on_hyphens=False
    )
