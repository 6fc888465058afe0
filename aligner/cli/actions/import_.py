"""Convert configuration files of another tool to a recipe and report every difference."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligner.errors import AlignerError, ChainError, ErrorCollector, ErrorGroup, did_you_mean
from aligner.host import Host
from aligner.options.row_operations import with_operations
from aligner.options.validation import validate
from aligner.recipe import read_recipe, recipe_from
from aligner.recipe.names import RECIPE_NAME
from aligner.recipe.source import read_source
from aligner.recipe.tree import Value
from aligner.registry import ConfigImporter, ExternalConfig, ImportNote, ImportResult
from aligner.terminal.json_output import print_json
from aligner.terminal.text import sanitize

_REPORTED = ("no counterpart", "other meaning", "added", "default", "not needed")
_IN_RECIPE = ("no counterpart", "other meaning", "added")
"""Kinds of notes that are written at the top of the recipe as comments."""


def import_recipe(arguments: argparse.Namespace) -> int:
    """Write the recipe and print the notes about it.

    Raises:
        AlignerError: A file cannot be read, belongs to no known tool, or asks for something that
            aligner does not do; or a stage rejects an option, and then the recipe is written, to be
            corrected.
    """
    out = _output_path(arguments)
    host = Host.discover()
    configs = [_read(path, out, arguments.method) for path in arguments.files]
    tool = _find_tool(configs, host.registry().config_importers, arguments.tool)
    operations = host.registry().row_operations
    models = {
        name: with_operations(stage.Options, operations) for name, stage in host.stages().items()
    }
    result = tool.translate(configs, models)
    text = _recipe_text(result, configs, out, tool)
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    steps = [str(step.get("as", step["stage"])) for step in result.recipe["steps"]]
    if arguments.json:
        print_json(_result_json(result, out, tool))
    else:
        sys.stdout.write(_report(result, out, tool, steps))
    sys.stdout.flush()
    errors = ErrorCollector()
    for step in read_recipe(out).steps:
        with errors:
            validate(step, host.stage(step.stage, where=step.where), operations)
    errors.raise_if_any()
    return 0


def _output_path(arguments: argparse.Namespace) -> Path:
    out: Path = arguments.out or Path(f"{arguments.files[-1].stem}-aligner.yaml")
    if out.exists():
        raise AlignerError(
            f"{out} exists already", where="--out", hint="choose another file with --out"
        )
    if not out.absolute().parent.is_dir():
        raise AlignerError(f"there is no folder {out.parent}", where="--out")
    return out


def _read(path: Path, out: Path, method: str | None) -> ExternalConfig:
    shown = os.fspath(path)
    errors: list[AlignerError] = []
    source = read_source(path, label=shown, asked="", environment=os.environ, errors=errors)
    ErrorGroup.raise_if_any(errors)
    settings = source.tree.plain()
    if not isinstance(settings, Mapping):
        raise ChainError("this is not a mapping of settings", where=shown)
    return ExternalConfig(
        path=path,
        where=shown,
        settings=settings,
        lines=dict(_line_numbers(source.tree, "")),
        folder=Path.cwd(),
        recipe_folder=out.absolute().parent,
        method=method,
    )


def _line_numbers(value: Value, path: str) -> Iterator[tuple[str, str]]:
    if path:
        yield path, value.where
    children: Sequence[tuple[object, Value]] = ()
    if isinstance(value.data, dict):
        children = list(value.data.items())
    elif isinstance(value.data, list):
        children = list(enumerate(value.data))
    for key, child in children:
        yield from _line_numbers(child, f"{path}.{key}" if path else str(key))


def _find_tool(
    configs: Sequence[ExternalConfig], known: Mapping[str, ConfigImporter], name: str | None
) -> ConfigImporter:
    if name is not None:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ChainError(f"no plugin imports files of {name!r}", where="--from", hint=hint)
        return known[name]
    tools: dict[str, str] = {}
    for config in configs:
        names = [name for name, tool in known.items() if tool.recognize(config.settings)]
        if len(names) != 1:
            what = "this is not recognized as a file of another tool"
            if names:
                what = f"this may be a file of {' or '.join(names)}"
            hint = f"name the tool with --from: {', '.join(sorted(known))}"
            raise ChainError(what, where=config.where, hint=hint)
        tools[names[0]] = config.where
    if len(tools) > 1:
        files = " and ".join(f"{where} of {name}" for name, where in tools.items())
        raise ChainError(
            f"files of different tools cannot become one chain: {files}", where=configs[0].where
        )
    return known[next(iter(tools))]


def _recipe_text(
    result: ImportResult, configs: Sequence[ExternalConfig], out: Path, tool: ConfigImporter
) -> str:
    """Return the recipe file, with the most important notes as comments at its top."""
    name = out.stem if RECIPE_NAME.fullmatch(out.stem) else "imported"
    recipe = recipe_from({"name": name, **result.recipe}, folder=out.absolute().parent)
    sources = ", ".join(config.where for config in configs)
    head = [
        f"Imported from {sources} ({tool.name}) by aligner import.",
        *_notes(result, _IN_RECIPE),
    ]
    return "".join(f"# {sanitize(line)}\n" for line in head) + recipe.to_yaml()


def _report(result: ImportResult, out: Path, tool: ConfigImporter, steps: Sequence[str]) -> str:
    counts = [f"{result.taken} settings of {tool.name} imported"]
    counts += [
        f"{number} {kind}"
        for kind in _REPORTED
        if (number := sum(note.kind == kind for note in result.notes))
    ]
    lines = [
        *map(sanitize, _notes(result, _REPORTED)),
        f"{out}: {' → '.join(steps)}",
        f"  {', '.join(counts)}",
        f"  next: aligner check {out}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _notes(result: ImportResult, kinds: Sequence[str]) -> Iterator[str]:
    for kind in kinds:
        notes: list[ImportNote] = [note for note in result.notes if note.kind == kind]
        if notes:
            yield f"{kind}:"
            yield from (f"  {note.where}: {note.key}: {note.text}" for note in notes)


def _result_json(result: ImportResult, out: Path, tool: ConfigImporter) -> dict[str, Any]:
    return {
        "recipe": os.fspath(out),
        "from": tool.name,
        "imported": result.taken,
        "notes": [
            {"kind": note.kind, "where": note.where, "key": note.key, "text": note.text}
            for note in result.notes
        ],
    }
