"""Write a distribution that adds a stage, from the templates beside this module."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

from aligner.errors import AlignerError, PluginError
from aligner.host import Host

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    "aligner_$name/__init__.py": "__init__.py",
    "aligner_$name/options.py": "options.py",
    "aligner_$name/stage.py": "stage.py",
    "aligner_$name/loss.py": "loss.py",
    "aligner_$name/py.typed": "",
    "tests/test_$name.py": "test_stage.py",
}
"""Each file of the distribution, and the template that it is made from."""


def write_plugin(name: str, folder: Path | None) -> int:
    """Write the distribution and say what to do next.

    Raises:
        PluginError: `name` cannot name a stage, or one goes by it already.
        AlignerError: The folder exists.
    """
    _check_name(name)
    folder = folder or Path(f"aligner-{name.replace('_', '-')}")
    if folder.exists():
        raise AlignerError(
            f"{folder} exists already", where="--dir", hint="give another folder with --dir"
        )
    for path, text in distribution(name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sys.stdout.write(
        f"{folder}: {len(FILES)} files\n"
        f"  next: pip install -e '{folder}[test]'\n"
        f"        pytest {folder}\n"
        f"        aligner stages {name}\n"
    )
    return 0


def distribution(name: str) -> dict[str, str]:
    """The text of each file of the distribution, by its path."""
    words = {
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "dashed": name.replace("_", "-"),
    }
    templates = files("aligner.cli.shared").joinpath("plugin_template")
    made = {}
    for path, source in FILES.items():
        text = templates.joinpath(f"{source}.template").read_text("utf-8") if source else ""
        made[Template(path).substitute(words)] = Template(text).substitute(words)
    return made


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise PluginError(
            f"{name!r} cannot name a stage",
            where="NAME",
            hint="use lower-case letters and digits, words joined by _",
        )
    host = Host.discover()
    if name in host.stages():
        raise PluginError(
            f"there is a stage {name!r} already, of plugin {host.plugin_version(name)}",
            where="NAME",
            hint="give yours another name",
        )
