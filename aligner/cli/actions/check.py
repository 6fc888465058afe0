"""Check a recipe and print the plan of a run as a table, as paragraphs, or as JSON."""

from __future__ import annotations

import argparse
import json
import sys

from aligner.chain import CheckedChain, check
from aligner.cli.startup import load_chain, load_host
from aligner.errors import AlignerError, ErrorGroup
from aligner.run import processes
from aligner.terminal.console import make_console, print_to
from aligner.terminal.exit_codes import print_message
from aligner.terminal.forecast import Forecast, forecast
from aligner.terminal.json_output import print_json
from aligner.terminal.output_capture import capture_output
from aligner.terminal.plan_table import plan_json, render_plan
from aligner.terminal.text import sanitize


def check_recipe(arguments: argparse.Namespace) -> int:
    """Check the recipe in `arguments` and print its plan; return 0 if it can run, else 2."""
    warnings: list[str] = []
    with capture_output(warn=warnings.append) as capture:
        try:
            checked, forecasts = _check(arguments)
        except AlignerError as error:
            if not arguments.json:
                raise
            if processes.rank() == 0:
                text = json.dumps({"errors": errors_json(error)}, indent=2)
                print(sanitize(text), file=capture.stdout)
            return error.exit_code
        finally:
            if arguments.verbose:
                capture.stderr.write(capture.text())
    if processes.rank() != 0:
        return 0
    for text in warnings:
        print_message(f"warning: {text}", sys.stderr)
    if arguments.json:
        print_json(plan_json(checked, forecasts))
    else:
        console = make_console()
        print_to(console, render_plan(checked, forecasts, console, full=arguments.verbose))
    return 0


def errors_json(error: AlignerError) -> list[dict[str, str]]:
    """Return every error of `error` as values for JSON."""
    errors = error.errors if isinstance(error, ErrorGroup) else (error,)
    return [{"where": error.where, "what": error.what, "hint": error.hint} for error in errors]


def _check(arguments: argparse.Namespace) -> tuple[CheckedChain, list[Forecast]]:
    host = load_host(arguments)
    chain = load_chain(arguments, host)
    checked = check(chain, host, runs=arguments.runs)
    forecasts = forecast(
        checked,
        arguments.runs,
        name=arguments.name or chain.recipe.name,
        until=arguments.until,
        start_from=arguments.start_from,
        fresh=arguments.fresh,
    )
    return checked, forecasts
