"""Add a GGUF file to an exported folder with llama.cpp's own converter, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from aligner.export.spec import ExportError, ExportFailed
from aligner.terminal.text import one_line, safe

TYPES = ("f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto")
"""What the converter writes by itself; smaller types are llama-quantize's work."""
_SCRIPT = "convert_hf_to_gguf.py"


def find_converter(kind: str) -> Path:
    """The converter: in the folder that LLAMA_CPP names, or on the PATH.

    Raises:
        ExportError: It is not there, or writes no files of the type `kind`.
    """
    if kind not in TYPES:
        raise ExportError(
            f"llama.cpp's converter writes no GGUF type {kind!r}",
            hint=f"types: {', '.join(TYPES)}; llama-quantize makes smaller ones of these",
        )
    home = os.environ.get("LLAMA_CPP")
    found = Path(home, _SCRIPT) if home else Path(shutil.which(_SCRIPT) or "")
    if not found.is_file():
        at = f"{found} is not there" if home else "llama.cpp's converter was not found"
        raise ExportError(
            f"--gguf: {at}",
            hint="git clone https://github.com/ggml-org/llama.cpp and set LLAMA_CPP to that folder",
        )
    bundled = found.parent / "gguf-py" / "gguf"  # the converter prefers its own copy
    if find_spec("gguf") is None and not bundled.is_dir():
        raise ExportError(
            "--gguf: the converter needs the package gguf, which is not installed",
            hint="pip install 'aligner[gguf]'",
        )
    return found


def add_gguf(folder: Path, converter: Path, kind: str, *, name: str) -> Path:
    """Convert the whole weights in `folder`; the file, in the same folder.

    Raises:
        ExportFailed: The converter did not make it, with the end of what it said.
    """
    made = folder / f"{name}-{kind}.gguf"
    words = [sys.executable, str(converter), str(folder), "--outfile", str(made), "--outtype", kind]
    ran = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode or not made.is_file() or _magic(made) != b"GGUF":
        said = [one_line(line) for line in ran.stderr.splitlines() if line.strip()]
        raise ExportFailed(
            f"the GGUF converter failed (exit code {ran.returncode}): "
            + safe(said[-1] if said else "it said nothing"),
            hint="llama.cpp may not know this architecture or tokenizer; leave out --gguf",
        )
    return made


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
