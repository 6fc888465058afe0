"""The plugins of a recipe built in Python: installed plugins, given ones, and local stages."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from aligner.errors import PluginError
from aligner.hookspecs import hookimpl
from aligner.host import Host
from aligner.stage import Stage


class _LocalStage:
    """A plugin of one stage class that no installed plugin has."""

    def __init__(self, stage: type[Stage[Any]]) -> None:
        self._stage = stage

    @hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return (self._stage,)


def make_host(plugins: Iterable[object], stages: Sequence[Stage[Any]]) -> Host:
    """Return a host with the installed plugins, `plugins`, and those of `stages` that neither has.

    Raises:
        PluginError: A stage has the name of a different stage, or a plugin is invalid.
    """
    host = Host.discover()
    for number, plugin in enumerate(plugins):
        name = getattr(plugin, "__name__", f"{type(plugin).__name__}{number}")
        host.add(plugin, name=name, version=str(getattr(plugin, "__version__", "")))
    for kind in dict.fromkeys(type(stage) for stage in stages):
        existing = host.stages().get(kind.name)
        if existing is None:
            host.add(_LocalStage(kind), name=f"local_{kind.name}", version=_version_of(kind))
        elif existing is not kind:
            raise PluginError(
                f"{kind.__module__}.{kind.__qualname__} has the name of another stage, {kind.name!r}",
                where=f"stage {kind.name!r}",
                hint=f"rename it: {existing.__module__}.{existing.__qualname__} of plugin "
                f"{host.plugin_version(kind.name)} has this name already",
            )
    return host


def _version_of(kind: type) -> str:
    """Return a version that changes with the source of the class, so that changed code runs again."""
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt: there is no source to compare
        text = uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()[:12]
