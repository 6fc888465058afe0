"""The plugins of a recipe made in Python: the installed ones, those named, and stages defined here."""

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


class _Here:
    """Offers one stage class that no plugin does."""

    def __init__(self, stage: type[Stage[Any]]) -> None:
        self._stage = stage

    @hookimpl
    def aligner_stages(self) -> Iterable[type[Stage[Any]]]:
        return (self._stage,)


def host_with(plugins: Iterable[object], stages: Sequence[Stage[Any]]) -> Host:
    """The installed plugins, `plugins`, and whatever of `stages` none of them offers.

    Raises:
        PluginError: A stage is not the one that goes by its name, or a plugin is not sound.
    """
    host = Host.discover()
    for number, plugin in enumerate(plugins):
        name = getattr(plugin, "__name__", f"{type(plugin).__name__}{number}")
        host.add(plugin, name=name, version=str(getattr(plugin, "__version__", "")))
    for kind in dict.fromkeys(type(stage) for stage in stages):
        offered = host.stages().get(kind.name)
        if offered is None:
            host.add(_Here(kind), name=f"here_{kind.name}", version=_version_of(kind))
        elif offered is not kind:
            raise PluginError(
                f"{kind.__module__}.{kind.__qualname__} is not the stage {kind.name!r} in use",
                where=f"stage {kind.name!r}",
                hint=f"that is {offered.__module__}.{offered.__qualname__} of plugin "
                f"{host.plugin_version(kind.name)}; give yours another name",
            )
    return host


def _version_of(kind: type) -> str:
    """A version that changes with the text of the class, so that changed code runs again."""
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):  # typed at a prompt: nobody can say whether it is the same
        text = uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()[:12]
