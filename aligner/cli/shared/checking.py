"""Check a recipe and print what a run would do: a table, a paragraph a step, or JSON."""

from __future__ import annotations

import argparse
import json
import sys

from aligner.chain import CheckedChain, check
from aligner.cli.shared.recipes import host_for, linked
from aligner.errors import AlignerError, ErrorGroup
from aligner.run import processes
from aligner.terminal.console import console_on, show
from aligner.terminal.exit_codes import say
from aligner.terminal.forecast import Forecast, forecast
from aligner.terminal.listing import print_json
from aligner.terminal.output_capture import kept
from aligner.terminal.plan_table import as_json, planned
from aligner.terminal.text import safe


def check_recipe(arguments: argparse.Namespace) -> int:
    """Check the recipe in `arguments` and print what is known; 0 when it can run, 2 when not."""
    warned: list[str] = []
    with kept(warn=warned.append) as chatter:
        try:
            checked, answers = _checked(arguments)
        except AlignerError as error:
            if not arguments.json:
                raise
            if processes.rank() == 0:
                print(safe(json.dumps({"errors": as_errors(error)}, indent=2)), file=chatter.screen)
            return error.exit_code
        finally:
            if arguments.verbose:
                chatter.errors.write(chatter.said())
    if processes.rank() != 0:
        return 0
    for text in warned:
        say(f"warning: {text}", sys.stderr)
    if arguments.json:
        print_json(as_json(checked, answers))
    else:
        console = console_on()
        show(console, planned(checked, answers, console, everything=arguments.verbose))
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[CheckedChain, list[Forecast]]:
    host = host_for(arguments)
    chain = linked(arguments, host)
    checked = check(chain, host, runs=arguments.runs)
    answers = forecast(
        checked,
        arguments.runs,
        name=arguments.name or chain.recipe.name,
        until=arguments.until,
        start_from=arguments.start_from,
        fresh=arguments.fresh,
    )
    return checked, answers


def as_errors(error: AlignerError) -> list[dict[str, str]]:
    """What is wrong, for programs."""
    errors = error.errors if isinstance(error, ErrorGroup) else (error,)
    return [{"where": one.where, "what": one.what, "hint": one.hint} for one in errors]
