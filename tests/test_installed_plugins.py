"""Distributions that add stages, built and installed into a fresh environment, are found and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.scaffold.plugin import plugin_files
from aligner.testing import conversations, preferences, write_files, write_tiny

EXAMPLE = Path(__file__).parent / "example_plugin"
ROOT = Path(__file__).parents[1]

TALK = """\
model: tiny
steps:
  - {stage: margin_dpo, data: pairs.jsonl, max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1e-2}
  - {stage: sft, data: talks.jsonl, max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1e-2}
"""
PAIRS = """\
model: tiny
steps:
  - {stage: rdpo, data: pairs.jsonl, max_steps: 2, per_device_train_batch_size: 4, learning_rate: 1e-2}
"""

Install = Callable[[Path], Callable[..., str]]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Build a wheel of a distribution, install it into a fresh environment, and give its Python."""

    def make(source: Path) -> Callable[..., str]:
        pytest.importorskip("hatchling")
        quiet = ["--no-deps", "--no-index", "--disable-pip-version-check", "-q"]
        pip = [sys.executable, "-m", "pip"]
        wheels = tmp_path / "wheels"
        _call([*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(wheels), str(source)])
        fresh = tmp_path / "environment"
        _call([sys.executable, "-m", "venv", "--without-pip", str(fresh)])
        python = str(fresh / "bin" / "python")
        _call([*pip, "--python", python, "install", *quiet, *map(str, wheels.glob("*.whl"))])
        # The libraries and aligner itself come from here: nothing is downloaded.
        shared = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "plugins")]
        paths = {"PYTHONPATH": os.pathsep.join(shared)}
        return lambda *words: _call([python, *words], **paths)

    return make


def _call(command: list[str], **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=clean | environment)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_new_plugin_is_found_checked_tested_and_run(install: Install, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_files(source, plugin_files("margin_dpo"))
    python = install(source)
    write_tiny(tmp_path / "tiny")
    write_files(
        tmp_path, {"talks.jsonl": conversations(), "pairs.jsonl": preferences(), "r.yaml": TALK}
    )
    aligner = ["-m", "aligner.cli"]
    assert "Peak learning rate" in python(*aligner, "stages", "margin_dpo")
    assert "(plugin margin_dpo 0.1.0)" in python(*aligner, "check", str(tmp_path / "r.yaml"))
    runs = str(tmp_path / "runs")
    assert "margin_dpo" in python(*aligner, "run", str(tmp_path / "r.yaml"), "--runs", runs)
    assert (tmp_path / "runs/r/steps/1-margin_dpo/policy/model.safetensors").is_file()
    tests = str(source / "tests")
    assert "13 passed" in python(
        "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tests, tests
    )


@pytest.mark.slow
def test_the_example_plugin_is_found_checked_and_run(install: Install, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    python = install(source)
    write_tiny(tmp_path / "tiny")
    write_files(tmp_path, {"pairs.jsonl": preferences(), "r.yaml": PAIRS})
    aligner = ["-m", "aligner.cli"]
    listing = python(*aligner, "stages")
    assert all(offer in listing for offer in ("rdpo", "better-worse", "brevity"))
    runs = str(tmp_path / "runs")
    assert "rdpo" in python(*aligner, "run", str(tmp_path / "r.yaml"), "--runs", runs)
    assert (tmp_path / "runs/r/steps/1-rdpo/policy/model.safetensors").is_file()
