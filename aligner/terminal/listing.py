"""Print a listing as text, or as JSON for programs."""

from __future__ import annotations

import argparse
from typing import Any

from aligner.terminal.as_json import json_page


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def print_json(value: Any) -> None:
    """Write `value` as JSON, control characters escaped and secrets left out."""
    print(json_page(value))
