"""Find out whose recipe a file is, have it translated, and say what became of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aligner.errors import AlignerError, ChainError, ErrorCollector, ErrorGroup, did_you_mean
from aligner.host import Host
from aligner.options.validation import validate
from aligner.recipe import read_recipe, recipe_from
from aligner.recipe.names import RECIPE_NAME
from aligner.recipe.source import read_source
from aligner.recipe.tree import Value
from aligner.registry import ConfigImporter, ExternalConfig, ImportNote, ImportResult
from aligner.terminal.listing import print_json
from aligner.terminal.text import safe

_TOLD = ("no counterpart", "other meaning", "added", "default", "not needed")
_WRITTEN = ("no counterpart", "other meaning", "added")
"""Remarks that the recipe itself keeps, as comments at its head."""


def import_recipe(arguments: argparse.Namespace) -> int:
    """Write the recipe and the notes about it.

    Raises:
        AlignerError: A file cannot be read, is of no known tool, or says what cannot be done here;
            or an option that was written is refused by its stage, then the recipe is there to correct.
    """
    out = _target(arguments)
    host = Host.discover()
    files = [_read(path, out, arguments.method) for path in arguments.files]
    tool = _tool(files, host.registry().config_importers, arguments.tool)
    translated = tool.translate(files, host.stages())
    text = _written(translated, files, out, tool)
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    steps = [str(step.get("as", step["stage"])) for step in translated.recipe["steps"]]
    if arguments.json:
        print_json(_as_json(translated, out, tool))
    else:
        sys.stdout.write(_report(translated, out, tool, steps))
    sys.stdout.flush()
    errors = ErrorCollector()
    for step in read_recipe(out).steps:
        with errors:
            validate(step, host.stage(step.stage, where=step.where))
    errors.raise_if_any()
    return 0


def _target(arguments: argparse.Namespace) -> Path:
    out: Path = arguments.out or Path(f"{arguments.files[-1].stem}-aligner.yaml")
    if out.exists():
        raise AlignerError(
            f"{out} exists already", where="--out", hint="give another file with --out"
        )
    if not out.absolute().parent.is_dir():
        raise AlignerError(f"there is no folder {out.parent}", where="--out")
    return out


def _read(path: Path, out: Path, method: str | None) -> ExternalConfig:
    shown = os.fspath(path)
    errors: list[AlignerError] = []
    source = read_source(path, shown=shown, asked="", environment=os.environ, errors=errors)
    ErrorGroup.raise_if_any(errors)
    settings = source.tree.plain()
    if not isinstance(settings, Mapping):
        raise ChainError("this is no mapping of settings, so nobody's recipe", where=shown)
    lines: dict[str, str] = {}
    _note(source.tree, "", lines)
    return ExternalConfig(
        path=path,
        where=shown,
        settings=settings,
        lines=lines,
        folder=Path.cwd(),
        recipe_folder=out.absolute().parent,
        method=method,
    )


def _note(value: Value, at: str, lines: dict[str, str]) -> None:
    if at:
        lines[at] = value.where
    below: Sequence[tuple[object, Value]] = ()
    if isinstance(value.data, dict):
        below = list(value.data.items())
    elif isinstance(value.data, list):
        below = list(enumerate(value.data))
    for key, one in below:
        _note(one, f"{at}.{key}" if at else str(key), lines)


def _tool(
    files: Sequence[ExternalConfig], known: Mapping[str, ConfigImporter], asked: str | None
) -> ConfigImporter:
    if asked is not None:
        if asked not in known:
            hint = did_you_mean(asked, known)
            raise ChainError(f"no plugin reads recipes of {asked!r}", where="--from", hint=hint)
        return known[asked]
    names: dict[str, str] = {}
    for one in files:
        found = [name for name, tool in known.items() if tool.recognize(one.settings)]
        if len(found) != 1:
            what = f"this looks like a recipe of {' and of '.join(found)}" if found else (
                "this is not recognised as a recipe of another tool"
            )  # fmt: skip
            hint = f"say whose it is with --from: {', '.join(sorted(known))}"
            raise ChainError(what, where=one.where, hint=hint)
        names[found[0]] = one.where
    if len(names) > 1:
        whose = " and ".join(f"{where} of {name}" for name, where in names.items())
        raise ChainError(f"files of several tools make no chain: {whose}", where=files[0].where)
    return known[next(iter(names))]


def _written(
    translated: ImportResult, files: Sequence[ExternalConfig], out: Path, tool: ConfigImporter
) -> str:
    """The recipe, read once so that it is one, with what must not be forgotten at its head."""
    name = out.stem if RECIPE_NAME.fullmatch(out.stem) else "imported"
    recipe = recipe_from({"name": name, **translated.recipe}, folder=out.absolute().parent)
    head = [f"From {', '.join(one.where for one in files)} ({tool.name}), by aligner import."]
    for kind in _WRITTEN:
        found = [one for one in translated.notes if one.kind == kind]
        head += [f"{kind}:", *(f"  {_line(one)}" for one in found)] if found else []
    return "".join(f"# {safe(line)}\n" for line in head) + recipe.to_yaml()


def _line(remark: ImportNote) -> str:
    return f"{remark.where}: {remark.key}: {remark.text}"


def _report(translated: ImportResult, out: Path, tool: ConfigImporter, steps: Sequence[str]) -> str:
    lines = []
    for kind in _TOLD:
        found = [one for one in translated.notes if one.kind == kind]
        if found:
            lines += [f"{kind}:", *(f"  {safe(_line(one))}" for one in found)]
    counts = [f"{translated.taken} settings of {tool.name} taken over"]
    counts += [
        f"{number} {kind}"
        for kind in _TOLD
        if (number := sum(one.kind == kind for one in translated.notes))
    ]
    lines += [
        f"{out}: {' → '.join(steps)}",
        f"  {', '.join(counts)}",
        f"  next: aligner check {out}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _as_json(translated: ImportResult, out: Path, tool: ConfigImporter) -> dict[str, Any]:
    return {
        "recipe": os.fspath(out),
        "from": tool.name,
        "taken": translated.taken,
        "notes": [
            {"kind": one.kind, "where": one.where, "key": one.key, "text": one.text}
            for one in translated.notes
        ],
    }
