"""Write a recipe for a method, a model and data, then check it."""

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
from aligner.scaffold.recipe_inputs import ModelSummary, summarize_data
from aligner.terminal.output_capture import capture_output

_ADAPTERS = ("lora", "qlora", "none")


def new_recipe(arguments: argparse.Namespace) -> int:
    """Write the recipe and check it.

    Raises:
        AlignerError: A value is missing or wrong, or the file exists.
    """
    host = Host.discover()
    templates = host.registry().recipe_templates
    if arguments.list:
        width = max(map(len, templates), default=0)
        sys.stdout.write("".join(f"{n:{width}}  {t.about}\n" for n, t in templates.items()))
        return 0
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    template = _template(arguments.method, templates, interactive)
    model = arguments.model or _ask("model, a folder or Hub id", "", interactive, "--model")
    data = {
        option: getattr(arguments, option)
        or _ask_for_data(option, kind, option in template.optional_data, interactive)
        for option, kind in {**template.optional_data, **template.required_data}.items()
    }
    adapter = arguments.adapter or (
        _ask(f"adapter ({', '.join(_ADAPTERS)})", template.adapter, interactive)
        if interactive
        else template.adapter
    )
    default = f"{template.name}.yaml"
    out: Path = arguments.out or Path(
        _ask("output file", default, interactive) if interactive else default
    )
    _check_arguments(out, adapter, data, arguments, template)
    with capture_output():  # libraries print while they load
        inputs = _template_inputs(model, adapter, data, template, out, host)
    text = template.render(inputs)
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    sys.stdout.write(_report(out, inputs))
    sys.stdout.flush()
    if inputs.template is None:
        sys.stdout.write(
            f"  the model could not be read here: run `aligner check {out}` where it can\n"
        )
        return 0
    recipe = read_recipe(out)
    with capture_output():
        check(link(recipe, host), host)
    sys.stdout.write(f"  it passes the check\n  next: aligner run {out}\n")
    return 0


def _template(
    method: str | None, known: Mapping[str, RecipeTemplate], interactive: bool
) -> RecipeTemplate:
    if method is None and interactive:
        for name, template in known.items():
            sys.stdout.write(f"  {name}: {template.about}\n")
        method = _ask("method", next(iter(known), ""), interactive)
    if method is None or method not in known:
        what = "a training method is missing" if method is None else f"unknown method {method!r}"
        raise ChainError(what, where="--method", hint=did_you_mean(method or "", known))
    return known[method]


def _ask_for_data(option: str, kind: RowKind, optional: bool, interactive: bool) -> list[str]:
    if optional and not interactive:
        return []
    text = f"{option}: {kind} rows, a file, folder or Hub id" + (", or nothing" if optional else "")
    answer = _ask(text, "", interactive, "" if optional else f"--{option}")
    return [answer] if answer else []


def _ask(prompt: str, default: str, interactive: bool, required: str = "") -> str:
    """Ask on the terminal and return the answer, or `default` if it is empty.

    Raises:
        ChainError: There is neither, and the value of the option `required` is needed.
    """
    answer = ""
    if interactive:
        sys.stdout.write(f"{prompt}{f' [{default}]' if default else ''}: ")
        sys.stdout.flush()
        answer = sys.stdin.readline().strip()
    if not answer and not default and required:
        raise ChainError(f"{required} is missing", where="new recipe", hint=f"give the {prompt}")
    return answer or default


def _check_arguments(
    out: Path,
    adapter: str,
    data: Mapping[str, list[str]],
    arguments: argparse.Namespace,
    template: RecipeTemplate,
) -> None:
    if adapter not in _ADAPTERS:
        raise ChainError(
            f"unknown adapter {adapter!r}", where="--adapter", hint=f"choose {', '.join(_ADAPTERS)}"
        )
    for option in ("data", "preferences"):
        if getattr(arguments, option) and option not in data:
            needed = " and ".join(f"--{name}" for name in template.required_data)
            raise ChainError(
                f"the method {template.name} does not use it",
                where=f"--{option}",
                hint=f"it uses {needed}",
            )
    if out.exists():
        raise AlignerError(
            f"{out} exists already", where="--out", hint="choose another file with --out"
        )
    if not out.absolute().parent.is_dir():
        raise AlignerError(f"there is no folder {out.parent}", where="--out")


def _template_inputs(
    name: str,
    adapter: str,
    data: Mapping[str, list[str]],
    template: RecipeTemplate,
    out: Path,
    host: Host,
) -> TemplateInputs:
    folder = out.absolute().parent
    model = ModelSummary(name, folder)
    kinds = {**template.optional_data, **template.required_data}
    summaries: dict[str, DatasetSummary] = {
        option: summarize_data(
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
        model=model.path,
        adapter=adapter,  # type: ignore[arg-type]  # one of the three, as checked
        data=summaries,
        positions=model.positions,
        template=None if tokenizer is None else bool(tokenizer.chat_template),
        special=model.special_tokens,
    )


def _report(out: Path, inputs: TemplateInputs) -> str:
    lines = [f"{out}"]
    for option, summary in inputs.data.items():
        rows = "not read" if summary.rows is None else f"{summary.rows} rows"
        length = f", 98% within {summary.longest} tokens" if summary.longest else ""
        lines.append(f"  {option}: {rows}{length}")
    return "".join(f"{line}\n" for line in lines)
