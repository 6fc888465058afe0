"""GGUF files and uploads to the Hub."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

Aligner = Callable[..., tuple[int, str, str]]
CONVERTER = """\
import json, pathlib, sys
folder, _, out, _, kind = sys.argv[1:]
config = json.loads((pathlib.Path(folder) / "config.json").read_text())
if config["model_type"] != "llama" or kind == "q8_0":
    sys.exit("Model\\x1b[2J is not supported")
pathlib.Path(out).write_bytes(b"GGUF" + kind.encode())
"""


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of llama.cpp, with a converter that writes a placeholder."""
    home = tmp_path / "llama.cpp"
    (home / "gguf-py" / "gguf").mkdir(parents=True)
    (home / "convert_hf_to_gguf.py").write_text(CONVERTER)
    monkeypatch.setenv("LLAMA_CPP", str(home))
    return home


def test_a_gguf_file_is_converted_from_the_merged_weights(
    aligner: Aligner, converter: Path, tmp_path: Path
) -> None:
    to = tmp_path / "tiny"
    code, out, _ = aligner("export", "small", "--to", str(to), "--gguf")
    assert code == 0
    assert out.splitlines()[-1] == f"  GGUF: {to}/tiny-f16.gguf"
    assert (to / "tiny-f16.gguf").read_bytes() == b"GGUFf16"


def test_the_error_of_the_converter_is_printed_and_nothing_is_exported(
    aligner: Aligner, converter: Path, tmp_path: Path
) -> None:
    code, _, err = aligner("export", "small", "--to", str(tmp_path / "tiny"), "--gguf", "q8_0")
    assert (code, err.splitlines()[-2:]) == (1, [
        "the GGUF converter failed (exit code 1): Model\\x1b[2J is not supported",
        "  hint: llama.cpp may not know this architecture or tokenizer; leave out --gguf",
    ])  # fmt: skip
    assert not (tmp_path / "tiny").exists()


def test_a_missing_converter_is_reported_with_the_way_to_install_it(
    aligner: Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(tmp_path))
    hint = (
        "  hint: git clone https://github.com/ggml-org/llama.cpp and set LLAMA_CPP to that folder\n"
    )
    message = f"--gguf: {tmp_path}/convert_hf_to_gguf.py does not exist\n{hint}"
    words = ("export", "small", "--to", str(tmp_path / "tiny"), "--gguf")
    assert aligner(*words) == (2, "", message)
    monkeypatch.delenv("LLAMA_CPP")
    monkeypatch.setenv("PATH", "")
    message = f"--gguf: convert_hf_to_gguf.py of llama.cpp was not found\n{hint}"
    assert aligner(*words) == (2, "", message)
    code, _, err = aligner(*words[:-1], "--gguf", "q4_k_m")
    assert (code, err.splitlines()[0]) == (
        2, "the converter of llama.cpp does not write the GGUF type 'q4_k_m'"
    )  # fmt: skip


def test_pushing_to_a_disabled_hub_is_refused_before_any_work(
    aligner: Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ("export", "small", "--to", str(tmp_path / "tiny"), "--push-to", "me/tiny")
    message = (
        "cannot push to 'me/tiny': HF_HUB_OFFLINE disables the Hub\n  hint: unset HF_HUB_OFFLINE\n"
    )
    assert aligner(*words) == (2, "", message)
    assert not (tmp_path / "tiny").exists()


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's interface that an upload of small files uses."""

    requests: ClassVar[list[tuple[str, Any]]] = []
    refuses: ClassVar[bool] = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lines = [json.loads(line) for line in body.splitlines() if line]
        self.requests.append((self.path, lines))
        if self.refuses:
            self._answer({"error": "Invalid token hf_" + "s" * 30}, status=401)
        elif self.path == "/api/repos/create":
            self._answer(
                {
                    "url": f"http://{self.headers['Host']}/me/tiny",
                    "id": "me/tiny",
                    "name": "me/tiny",
                }
            )
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in lines[0]["files"]
            ]
            self._answer({"files": files})
        else:
            self._answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/me/tiny/commit/1",
                    "commitOid": "1" * 40,
                }
            )

    def do_GET(self) -> None:
        self.requests.append((self.path, None))
        self._answer({"id": "me/tiny", "private": True, "sha": "0" * 40, "siblings": []})

    def _answer(self, content: Any, *, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.mark.parametrize("refuses", [False, True])
def test_the_folder_is_uploaded_and_the_token_is_never_printed(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(Hub, "requests", [])
    monkeypatch.setattr(Hub, "refuses", refuses)
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    token = "hf_" + "s" * 30
    endpoint = f"http://127.0.0.1:{server.server_port}"
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    to = tmp_path / "tiny"
    words = ("export", "small", "--step", "chat", "--to", str(to), "--push-to", "me/tiny")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aligner.cli", *words, "--private"],
            cwd=small_run, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert token not in done.stdout + done.stderr
    assert (to / "model.safetensors").is_file()
    if refuses:
        assert done.returncode == 1
        assert f"the model is in {to}, but could not be uploaded to 'me/tiny': " in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"  pushed to {endpoint}/me/tiny"
    created = next(lines for path, lines in Hub.requests if path == "/api/repos/create")
    assert (created[0]["name"], created[0]["organization"], created[0]["visibility"]) == (
        "tiny", "me", "private"
    )  # fmt: skip
    sent = next(lines for path, lines in Hub.requests if "/commit/" in path)
    files = {entry["value"]["path"]: entry["value"] for entry in sent if entry["key"] == "file"}
    for name in ("model.safetensors", "README.md", "chat_template.jinja", "tokenizer.json"):
        assert base64.b64decode(files[name]["content"]) == (to / name).read_bytes()
