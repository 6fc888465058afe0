"""A place to read data from, with the row operations of this plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

import aligner_curation
from aligner.host import host_of
from tests.data.conftest import Here, bare, chatty

__all__ = ["bare", "chatty"]


@pytest.fixture
def place(tmp_path: Path) -> Here:
    return Here(tmp_path, registry=host_of([aligner_curation]).registry())
