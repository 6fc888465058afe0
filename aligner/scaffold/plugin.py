"""The files of a new plugin, from the templates in `plugin_template`."""

from __future__ import annotations

from importlib.resources import files
from string import Template

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
"""Path of each file and the name of its template."""


def plugin_files(name: str) -> dict[str, str]:
    """Return the text of each file of the plugin, by its path."""
    values = {
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "dashed": name.replace("_", "-"),
    }
    templates = files("aligner.scaffold").joinpath("plugin_template")
    texts = {}
    for path, source in FILES.items():
        text = templates.joinpath(f"{source}.template").read_text("utf-8") if source else ""
        texts[Template(path).substitute(values)] = Template(text).substitute(values)
    return texts
