"""Carry out `aligner export`: read what is asked, export, and tell what came of it."""

from __future__ import annotations

import argparse
import sys

from aligner.export.export import export_step
from aligner.export.spec import Exported, Wanted
from aligner.run.selection import find_run, select_step
from aligner.terminal.exit_codes import say
from aligner.terminal.listing import print_json
from aligner.terminal.output_capture import kept
from aligner.terminal.text import clean, size


def export(arguments: argparse.Namespace) -> int:
    """Export a step's model and print where it is and how it compares."""
    wanted = Wanted(
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
    wanted.check()
    run = find_run(arguments.runs, arguments.name)
    chosen = select_step(run, arguments.step, slot=wanted.slot)
    with kept() as chatter:
        exported = export_step(chosen, wanted, tell=lambda text: say(f"{text} …", chatter.errors))
    if arguments.json:
        print_json(exported.as_dict())
        return 0
    what = f"{wanted.slot} of step {chosen.made_by(wanted.slot)!r}"
    print("\n".join(clean(text) for text in _told(exported, what)))
    sys.stdout.flush()
    return 0


def _told(exported: Exported, what: str) -> list[str]:
    form = f"whole weights in {exported.dtype}" if exported.base is None else "its adapter"
    told = [f"{exported.folder}: the {what}, {form}, {size(exported.octets)}"]
    told += [f"  {text}" for text in exported.proof.lines()]
    told += [f"  {text}" for text in exported.notes]
    told += [f"  GGUF: {exported.gguf}"] if exported.gguf is not None else []
    told += [f"  pushed to {exported.url}"] if exported.url is not None else []
    return told
