"""Carry out `aligner new recipe`: ask for what is missing, look, write, and check what was written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from aligner.chain import check, link
from aligner.errors import AlignerError, ChainError, did_you_mean
from aligner.host import Host
from aligner.recipe import read_recipe
from aligner.registry import DatasetSummary, RecipeTemplate, RowKind, TemplateInputs
from aligner.scaffold.looking import Model, look_at
from aligner.terminal.output_capture import kept


def new_recipe(arguments: argparse.Namespace) -> int:
    """Write the recipe and check it.

    Raises:
        AlignerError: Something is missing or at error, or the file exists.
    """
    host = Host.discover()
    recipe_templates = host.registry().recipe_templates
    if arguments.list:
        width = max(map(len, recipe_templates), default=0)
        sys.stdout.write("".join(f"{n:{width}}  {o.about}\n" for n, o in recipe_templates.items()))
        return 0
    asking = sys.stdin.isatty() and sys.stdout.isatty()
    outline = _outline(arguments.method, recipe_templates, asking)
    name = arguments.model or _ask("model, a folder or hub id", "", asking, "--model")
    data = {
        option: getattr(arguments, option)
        or _asked_data(option, kind, option in outline.optional_data, asking)
        for option, kind in {**outline.optional_data, **outline.required_data}.items()
    }
    adapter = arguments.adapter or (
        _ask("adapter: lora, qlora or none", outline.adapter, asking) if asking else outline.adapter
    )
    out: Path = arguments.out or Path(
        _ask("file to write", f"{outline.name}.yaml", asking) if asking else f"{outline.name}.yaml"
    )
    _refuse(out, adapter, data, arguments, outline)
    with kept():  # libraries talk while they load
        material = _material(name, adapter, data, outline, out, host)
    text = outline.render(material)
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    sys.stdout.write(_written(out, material))
    sys.stdout.flush()
    if material.template is None:
        sys.stdout.write("  the model could not be looked at: check it where it can\n")
        return 0
    recipe = read_recipe(out)
    with kept():
        check(link(recipe, host), host)
    sys.stdout.write(f"  it passes the check\n  next: aligner run {out}\n")
    return 0


def _outline(
    asked: str | None, known: Mapping[str, RecipeTemplate], asking: bool
) -> RecipeTemplate:
    if asked is None and asking:
        for name, one in known.items():
            sys.stdout.write(f"  {name}: {one.about}\n")
        asked = _ask("method", next(iter(known), ""), asking)
    if asked is None or asked not in known:
        what = "say what to train" if asked is None else f"there is no outline for {asked!r}"
        raise ChainError(what, where="--method", hint=did_you_mean(asked or "", known))
    return known[asked]


def _asked_data(option: str, kind: RowKind, may_lack: bool, asking: bool) -> list[str]:
    if may_lack and not asking:
        return []
    text = f"{option}: {kind} rows, a file, folder or hub id" + (", or nothing" if may_lack else "")
    said = _ask(text, "", asking, "" if may_lack else f"--{option}")
    return [said] if said else []


def _ask(what: str, otherwise: str, asking: bool, option: str = "") -> str:
    """What the user types, or `otherwise`; without a terminal, `option` is missed."""
    said = ""
    if asking:
        sys.stdout.write(f"{what}{f' [{otherwise}]' if otherwise else ''}: ")
        sys.stdout.flush()
        said = sys.stdin.readline().strip()
    if not said and not otherwise and option:
        raise ChainError(f"{option} is missing", where="new recipe", hint=f"give {what}")
    return said or otherwise


def _refuse(
    out: Path,
    adapter: str,
    data: Mapping[str, list[str]],
    arguments: argparse.Namespace,
    outline: RecipeTemplate,
) -> None:
    if adapter not in ("lora", "qlora", "none"):
        raise ChainError(
            f"there is no adapter {adapter!r}", where="--adapter", hint="lora, qlora, none"
        )
    for option in ("data", "preferences"):
        if getattr(arguments, option) and option not in data:
            needed = " and ".join(f"--{one}" for one in outline.required_data)
            what = f"{outline.name} makes no use of it"
            raise ChainError(what, where=f"--{option}", hint=f"it takes {needed}")
    if out.exists():
        raise AlignerError(
            f"{out} exists already", where="--out", hint="give another file with --out"
        )
    if not out.absolute().parent.is_dir():
        raise AlignerError(f"there is no folder {out.parent}", where="--out")


def _material(
    name: str,
    adapter: str,
    data: Mapping[str, list[str]],
    outline: RecipeTemplate,
    out: Path,
    host: Host,
) -> TemplateInputs:
    folder = out.absolute().parent
    model = Model(name, folder)
    kinds = {**outline.optional_data, **outline.required_data}
    looked: dict[str, DatasetSummary] = {
        option: look_at(
            names,
            kinds[option],
            model,
            option=f"--{option}",
            folder=folder,
            registry=host.registry(),
        )
        for option, names in data.items()
        if names
    }
    tokenizer = model.tokenizer
    return TemplateInputs(
        model=model.written,
        adapter=adapter,  # type: ignore[arg-type]  # one of the three, as checked
        data=looked,
        positions=model.positions,
        template=None if tokenizer is None else bool(tokenizer.chat_template),
        special=model.special,
    )


def _written(out: Path, material: TemplateInputs) -> str:
    lines = [f"{out}"]
    for option, one in material.data.items():
        rows = "not looked at" if one.rows is None else f"{one.rows} rows"
        length = f", nearly all within {one.longest} tokens" if one.longest else ""
        lines.append(f"  {option}: {rows}{length}")
    return "".join(f"{line}\n" for line in lines)
