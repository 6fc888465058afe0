"""Print a listing as text, or as JSON for programs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from aligner.screen.text import safe


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def print_json(value: Any) -> None:
    """Write `value` as JSON, without control characters and secrets."""
    print(safe(json.dumps(value, indent=2, ensure_ascii=False)))
