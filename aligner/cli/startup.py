"""Load plugins and recipes for a command, with the libraries' own messages out of the way."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aligner.terminal.output_capture import capture_output

if TYPE_CHECKING:
    from aligner.chain import Chain
    from aligner.host import Host


def set_library_defaults() -> None:
    """Set environment variables that libraries read when they load, unless they are set already."""
    # TRL reports every trainer it makes to its makers, unless told not to.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # Several processes that each use every core get in one another's way.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # On a CPU it asks, whenever it is loaded, for a package that nothing here needs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Hide what torch, transformers and other libraries print while they are imported."""
    set_library_defaults()
    with capture_output():
        yield


def load_host(arguments: argparse.Namespace) -> Host:
    """Return the host with the plugins that the command line selects."""
    from aligner.host import Host  # loads pluggy and the plugins, which --help does without

    set_library_defaults()
    return Host.discover(block=arguments.no_plugin, only=arguments.only_plugins)


def load_chain(arguments: argparse.Namespace, host: Host) -> Chain:
    """Read the recipe with its overrides and link it to the stages of `host`."""
    from aligner.chain import link  # loads pydantic and PyYAML, which --help does without
    from aligner.recipe import read_recipe

    recipe = read_recipe(arguments.recipe, overrides=arguments.overrides, keep_going=True)
    return link(recipe, host)
