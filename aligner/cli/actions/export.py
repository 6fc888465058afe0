"""Export the model of a step and report how it compares with the run's model."""

from __future__ import annotations

import argparse
import sys

from aligner.export.export import export_step
from aligner.export.options import ExportOptions
from aligner.export.result import ExportResult
from aligner.run.selection import find_run, select_step
from aligner.terminal.exit_codes import print_message
from aligner.terminal.json_output import print_json
from aligner.terminal.output_capture import capture_output
from aligner.terminal.text import escape_controls, format_size


def export(arguments: argparse.Namespace) -> int:
    options = ExportOptions(
        to=arguments.to,
        slot=arguments.slot,
        form="adapter" if arguments.adapter else "merged",
        dtype=arguments.dtype,
        license=arguments.license,
        license_name=arguments.license_name,
        license_link=arguments.license_link,
        gguf=arguments.gguf,
        push_to=arguments.push_to,
        private=arguments.private,
        force=arguments.force,
    )
    options.check()
    run = find_run(arguments.runs, arguments.name)
    step = select_step(run, arguments.step, slot=options.slot)
    with capture_output() as capture:
        result = export_step(
            step, options, on_progress=lambda text: print_message(f"{text} …", capture.stderr)
        )
    if arguments.json:
        print_json(result.as_dict())
        return 0
    model = f"{options.slot} of step {step.made_by(options.slot)!r}"
    print("\n".join(escape_controls(line) for line in _report(result, model)))
    sys.stdout.flush()
    return 0


def _report(result: ExportResult, model: str) -> list[str]:
    form = f"whole weights in {result.dtype}" if result.base is None else "adapter only"
    lines = [f"{result.folder}: {model}, {form}, {format_size(result.num_bytes)}"]
    lines += [f"  {text}" for text in result.verification.lines()]
    lines += [f"  {text}" for text in result.notes]
    lines += [f"  GGUF: {result.gguf}"] if result.gguf is not None else []
    lines += [f"  pushed to {result.url}"] if result.url is not None else []
    return lines
