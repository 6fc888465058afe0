"""Write a Python package with a new stage."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from aligner.errors import AlignerError, PluginError
from aligner.host import Host
from aligner.scaffold.plugin import plugin_files


def write_plugin(name: str, folder: Path | None) -> int:
    """Write the package and print the next commands.

    Raises:
        PluginError: `name` is not a valid stage name, or a stage has it already.
        AlignerError: The folder exists.
    """
    _check_name(name)
    folder = folder or Path(f"aligner-{name.replace('_', '-')}")
    if folder.exists():
        raise AlignerError(
            f"{folder} exists already", where="--dir", hint="choose another folder with --dir"
        )
    texts = plugin_files(name)
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sys.stdout.write(
        f"{folder}: {len(texts)} files\n"
        f"  next: pip install -e '{folder}[test]'\n"
        f"        pytest {folder}\n"
        f"        aligner stages {name}\n"
    )
    return 0


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise PluginError(
            f"{name!r} is not a valid stage name",
            where="NAME",
            hint="use lower-case letters and digits, words joined by _",
        )
    host = Host.discover()
    if name in host.stages():
        raise PluginError(
            f"plugin {host.plugin_version(name)} has a stage {name!r} already",
            where="NAME",
            hint="choose another name",
        )
