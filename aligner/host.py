"""Host: find the installed plugins, collect what they offer, and notify them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, cast

import pluggy

from aligner import hookspecs
from aligner.errors import AlignerError, ChainError, ErrorGroup, PluginError, did_you_mean
from aligner.registry import InstalledOperation, Registry
from aligner.stage import Progress, Stage, StepContext
from aligner.state import BUILT_IN_SLOTS, ModelState, Slot

BLOCK = "ALIGNER_NO_PLUGINS"
ALLOW = "ALIGNER_ONLY_PLUGINS"

T = TypeVar("T")


@dataclass(frozen=True)
class DisabledPlugin:
    """An installed plugin that is not used: broken, blocked, or not on the allow-list."""

    name: str
    source: str
    reason: str


class Host:
    """The plugins in use. There is no global host: create one and pass it on."""

    def __init__(self) -> None:
        self._pm = pluggy.PluginManager(hookspecs.PROJECT)
        self._pm.add_hookspecs(hookspecs)
        self._sources: dict[str, str] = {}
        self._versions: dict[str, str] = {}
        self.disabled: list[DisabledPlugin] = []

    @classmethod
    def discover(cls, *, block: Iterable[str] = (), only: Iterable[str] | None = None) -> Host:
        """Return a host with every installed plugin, aligner's own ones included.

        Args:
            block: Entry point names of plugins to skip, besides those in ALIGNER_NO_PLUGINS.
            only: The only plugins to use; None means ALIGNER_ONLY_PLUGINS, or all. Other plugins
                are not imported.
        """
        blocked = {*block, *_words(BLOCK)}
        allowed = frozenset(only) if only is not None else frozenset(_words(ALLOW)) or None
        host = cls()
        for entry in sorted(entry_points(group=hookspecs.PROJECT), key=lambda e: e.name):
            source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
            if entry.name in blocked:
                host.disabled.append(DisabledPlugin(entry.name, source, "blocked"))
            elif allowed is not None and entry.name not in allowed:
                host.disabled.append(DisabledPlugin(entry.name, source, "not on the allow-list"))
            else:
                host._load(entry, source)
        return host

    def _load(self, entry: EntryPoint, source: str) -> None:
        try:
            version = entry.dist.version if entry.dist else ""
            self.add(entry.load(), name=entry.name, source=source, version=version)
        except PluginError as error:
            self.disabled.append(DisabledPlugin(entry.name, source, f"broken: {error}"))
        except (Exception, SystemExit) as error:  # a broken plugin must not disable the others
            self.disabled.append(DisabledPlugin(entry.name, source, f"broken: {error!r}"))

    def add(
        self, plugin: object, *, name: str, source: str = "this process", version: str = ""
    ) -> None:
        """Add a plugin; on a PluginError the host stays as it was."""
        if self._pm.has_plugin(name):
            raise PluginError(
                f"two plugins have the name {name!r}",
                where=f"plugin {name!r} ({source})",
                hint=f"the other is of {self._sources[name]}; uninstall one of them",
            )
        try:
            self._pm.register(plugin, name)
            self._pm.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._pm.has_plugin(name):
                self._pm.unregister(name=name)
            raise PluginError(str(error), where=f"plugin {name!r} ({source})") from error
        self._sources[name], self._versions[name] = source, version

    def plugins(self) -> Mapping[str, str]:
        """Return the plugins in use: distribution and version by name."""
        return dict(self._sources)

    def stages(self) -> dict[str, type[Stage[Any]]]:
        """Return every stage by name."""
        return {name: stage for name, (stage, _) in self._stages().items()}

    def slots(self) -> dict[Slot, str]:
        """Return the description of every slot, by name: the built-in and the declared ones."""
        declared = [dict(stage.declares) for stage in self.stages().values()]
        return {name: text for slots in (BUILT_IN_SLOTS, *declared) for name, text in slots.items()}

    def plugin_version(self, stage: str) -> str:
        """Return the plugin of a stage, as `name version`."""
        return self._version_of(self._stages()[stage][1])

    def reward_function_version(self, name: str) -> str:
        """Return the plugin of a reward function, as `name version`."""
        hook = self._pm.hook.aligner_reward_functions
        return self._version_of(self._collect(hook, "reward function")[name][1])

    def _version_of(self, plugin: str) -> str:
        return f"{plugin} {self._versions[plugin]}".strip()

    def registry(self) -> Registry:
        """Return what the plugins offer besides stages."""
        hook = self._pm.hook
        return Registry(
            reward_functions=_values(
                self._collect(hook.aligner_reward_functions, "reward function")
            ),
            data_sources=_values(self._collect(hook.aligner_data_sources, "data source")),
            data_formats=_values(self._collect(hook.aligner_data_formats, "data format")),
            row_operations={
                name: InstalledOperation(operation, self._version_of(plugin))
                for name, (operation, plugin) in self._collect(
                    hook.aligner_row_operations, "row operation"
                ).items()
            },
            recipe_templates=_values(
                self._collect(hook.aligner_recipe_templates, "recipe template")
            ),
            config_importers=_values(
                self._collect(hook.aligner_config_importers, "config importer")
            ),
        )

    def stage(self, name: str, *, where: str) -> type[Stage[Any]]:
        """Return the stage named `name`; the error names disabled plugins, which may offer it."""
        stages = self.stages()
        if name in stages:
            return stages[name]
        hint = did_you_mean(name, stages)
        for plugin in self.disabled:
            source = f"plugin {plugin.name!r} ({plugin.source})"
            hint += f"\n  note: {source} is not in use: {plugin.reason}"
        raise ChainError(f"no plugin offers a stage {name!r}", where=where, hint=hint)

    def started(self, context: StepContext, state: ModelState) -> None:
        self._notify("aligner_step_started", context=context, state=state)

    def progress(self, context: StepContext, progress: Progress) -> None:
        self._notify("aligner_step_progress", context=context, progress=progress)

    def finished(self, context: StepContext, before: ModelState, after: ModelState) -> None:
        self._notify("aligner_step_finished", context=context, before=before, after=after)

    def failed(self, context: StepContext, state: ModelState, error: BaseException) -> None:
        self._notify("aligner_step_failed", context=context, state=state, error=error)

    def _stages(self) -> dict[str, tuple[type[Stage[Any]], str]]:
        return self._collect(self._pm.hook.aligner_stages, "stage")

    def _collect(self, hook: pluggy.HookCaller, kind: str) -> dict[str, tuple[Any, str]]:
        """Return the results of a hook in all plugins: value and plugin by name."""
        found: dict[str, tuple[Any, str]] = {}
        errors: list[AlignerError] = []
        for hookimpl in hook.get_hookimpls():
            for thing in cast("Iterable[Any]", hookimpl.function()):
                name = str(thing.name)
                if name in found:
                    errors.append(
                        PluginError(
                            f"{kind} {name!r} is offered twice",
                            where=self._describe(hookimpl.plugin_name),
                            hint=f"also by {self._describe(found[name][1])}; uninstall one of them, "
                            f"or block it with --no-plugin {hookimpl.plugin_name}",
                        )
                    )
                else:
                    found[name] = (thing, hookimpl.plugin_name)
        ErrorGroup.raise_if_any(errors)
        return found

    def _notify(self, hook: str, **facts: Any) -> None:
        """Call a hook in every plugin; an exception becomes a warning and does not stop the run."""
        caller: pluggy.HookCaller = getattr(self._pm.hook, hook)
        for hookimpl in caller.get_hookimpls():
            try:
                hookimpl.function(**{name: facts[name] for name in hookimpl.argnames})
            except Exception as error:  # an error of an observer must not end the training
                warnings.warn(
                    f"{self._describe(hookimpl.plugin_name)} failed in {hook}: {error!r}",
                    stacklevel=2,
                )

    def _describe(self, plugin: str) -> str:
        return f"plugin {plugin!r} ({self._sources[plugin]})"


def host_of(plugins: Iterable[object]) -> Host:
    """Return a host with only these plugins, for tests and notebooks."""
    host = Host()
    for number, plugin in enumerate(plugins):
        host.add(plugin, name=getattr(plugin, "__name__", f"plugin{number}"))
    return host


def _words(variable: str) -> list[str]:
    return [word for word in os.environ.get(variable, "").replace(",", " ").split() if word]


def _values(collected: Mapping[str, tuple[T, str]]) -> dict[str, T]:
    return {name: thing for name, (thing, _) in collected.items()}
