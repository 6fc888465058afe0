"""Convert an exported folder to GGUF with the converter of llama.cpp."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from aligner.export.options import ExportError, ExportFailed
from aligner.terminal.text import one_line, sanitize

TYPES = ("f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0", "auto")
"""Types that the converter writes; smaller types need llama-quantize."""
_SCRIPT = "convert_hf_to_gguf.py"


def find_converter(kind: str) -> Path:
    """Find the converter in the folder `LLAMA_CPP` or on the PATH.

    Raises:
        ExportError: It is missing, or does not write the type `kind`.
    """
    if kind not in TYPES:
        raise ExportError(
            f"the converter of llama.cpp does not write the GGUF type {kind!r}",
            hint=f"types: {', '.join(TYPES)}; llama-quantize makes smaller types from them",
        )
    home = os.environ.get("LLAMA_CPP")
    converter = Path(home, _SCRIPT) if home else Path(shutil.which(_SCRIPT) or "")
    if not converter.is_file():
        what = f"{converter} does not exist" if home else f"{_SCRIPT} of llama.cpp was not found"
        raise ExportError(
            f"--gguf: {what}",
            hint="git clone https://github.com/ggml-org/llama.cpp and set LLAMA_CPP to that folder",
        )
    bundled = converter.parent / "gguf-py" / "gguf"  # the converter prefers its own copy
    if find_spec("gguf") is None and not bundled.is_dir():
        raise ExportError(
            "--gguf: the converter needs the package gguf, which is not installed",
            hint="pip install 'aligner[gguf]'",
        )
    return converter


def add_gguf(folder: Path, converter: Path, kind: str, *, name: str) -> Path:
    """Convert the weights in `folder` and return the GGUF file in the same folder.

    Raises:
        ExportFailed: The converter failed; the message contains the last line of its output.
    """
    output = folder / f"{name}-{kind}.gguf"
    arguments = [str(folder), "--outfile", str(output), "--outtype", kind]
    command = [sys.executable, str(converter), *arguments]
    process = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if process.returncode or not output.is_file() or _magic(output) != b"GGUF":
        lines = [one_line(line) for line in process.stderr.splitlines() if line.strip()]
        raise ExportFailed(
            f"the GGUF converter failed (exit code {process.returncode}): "
            + sanitize(lines[-1] if lines else "no output"),
            hint="llama.cpp may not know this architecture or tokenizer; leave out --gguf",
        )
    return output


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
