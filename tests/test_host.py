from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

import aligner
from aligner.errors import AlignerError, ChainError, PluginError
from aligner.host import Host, host_of
from aligner.stage import Plan, PlanContext, Stage, StageOptions, StepContext
from aligner.state import ModelState

ROOT = Path(__file__).parents[1]


class NoOptions(StageOptions):
    pass


def stage_called(word: str) -> type[Stage[NoOptions]]:
    class Made(Stage[NoOptions]):
        """Does nothing."""

        name = word
        requires = frozenset()
        provides = frozenset()

        def plan(self, context: PlanContext) -> Plan:
            return Plan(summary="nothing")

        def run(self, state: ModelState, context: StepContext) -> ModelState:
            return state

    return Made


def plugin_offering(*stages: type[Stage[NoOptions]]) -> object:
    class Plugin:
        @aligner.hookimpl
        def aligner_stages(self) -> object:
            return stages

    return Plugin()


def test_aligners_own_stages_are_found_by_entry_point_alone() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        written = tomllib.load(file)["project"]["entry-points"]["aligner"]
    found = {entry.name: entry.value for entry in entry_points(group="aligner")}
    assert {name: found.get(name) for name in written} == written
    host = Host.discover()
    assert [plugin for plugin in host.disabled if plugin.name in written] == []
    # Plugins without a stage or data source of their own name.
    others = {"curation", "import", "recipe_templates", "rewards", "toy_tasks"}
    offered = {*host.stages(), *host.registry().data_sources}
    assert {name.removeprefix("aligner_") for name in written.values()} <= offered | others


def test_two_plugins_that_offer_one_stage_are_both_named_with_their_versions() -> None:
    host = Host()
    host.add(plugin_offering(stage_called("sft")), name="ours", source="aligner 0.1.0")
    host.add(plugin_offering(stage_called("sft")), name="theirs", source="acme-sft 2.3")
    with pytest.raises(PluginError) as caught:
        host.stages()
    assert str(caught.value) == (
        "plugin 'theirs' (acme-sft 2.3): stage 'sft' is offered twice\n"
        "  hint: also by plugin 'ours' (aligner 0.1.0); uninstall one of them, "
        "or block it with --no-plugin theirs"
    )


def test_a_hook_that_is_in_no_specification_is_refused_and_leaves_the_host_as_it_was() -> None:
    class Mistaken:
        @aligner.hookimpl
        def aligner_stagse(self) -> object:
            return ()

    host = Host()
    with pytest.raises(PluginError, match="aligner_stagse") as caught:
        host.add(Mistaken(), name="mistaken", source="acme 1")
    assert caught.value.where == "plugin 'mistaken' (acme 1)"
    assert host.plugins() == {}


def test_the_error_of_a_missing_stage_names_similar_stages_and_disabled_plugins() -> None:
    host = host_of([plugin_offering(stage_called("dpo"))])
    host.disabled.append(
        SimpleNamespace(name="acme", source="acme-stages 1.0", reason="broken: ImportError('x')")
    )
    with pytest.raises(ChainError) as caught:
        host.stage("dqo", where="r.yaml:3")
    assert str(caught.value) == (
        "r.yaml:3: no plugin offers a stage 'dqo'\n"
        "  hint: did you mean 'dpo'?\n"
        "  note: plugin 'acme' (acme-stages 1.0) is not in use: broken: ImportError('x')"
    )


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A folder on the path with an installed distribution whose plugin module leaves a trace."""
    (tmp_path / "acme.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\nraise OSError('no disk')\n"
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aligner]\nacme = acme\n")
    return tmp_path


def ask(code: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from aligner.host import Host\n" + code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{folder}", "PATH": "", **environment},
        cwd=folder,
    )
    return done.stdout.strip()


SHOW = "print([(a.name, a.source, a.reason) for a in Host.discover({}).disabled])"


def test_a_plugin_that_fails_to_import_is_disabled(distribution: Path) -> None:
    assert ask(SHOW.format(""), distribution) == (
        "[('acme', 'acme 1.0', \"broken: OSError('no disk')\")]"
    )
    assert (distribution / "imported").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        ("block=['acme']", {}, "blocked"),
        ("", {"ALIGNER_NO_PLUGINS": "other,acme"}, "blocked"),
        ("only=['sft']", {}, "not on the allow-list"),
        ("", {"ALIGNER_ONLY_PLUGINS": "sft dpo"}, "not on the allow-list"),
    ],
)
def test_a_plugin_kept_out_is_never_imported(
    distribution: Path, arguments: str, environment: dict[str, str], reason: str
) -> None:
    shown = ask(SHOW.format(arguments), distribution, **environment)
    assert f"('acme', 'acme 1.0', '{reason}')" in shown
    assert not (distribution / "imported").exists()


def test_finding_the_plugins_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom aligner.host import Host\nhost = Host.discover()\nhost.stages()\nhost.registry()\n"
        "heavy = ('torch', 'transformers', 'trl', 'peft', 'datasets', 'evaluate')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_observer_that_raises_is_named_and_does_not_stop_the_others() -> None:
    heard = []

    class Bad:
        @aligner.hookimpl
        def aligner_step_started(self) -> None:
            raise RuntimeError("tracker is down")

    class Good:
        @aligner.hookimpl
        def aligner_step_started(self, state: ModelState) -> None:
            heard.append(state)

    host = Host()
    host.add(Good(), name="good", source="here")
    host.add(Bad(), name="bad", source="acme 1.0")
    with pytest.warns(UserWarning, match="failed in aligner_step_started") as warned:
        host.started(None, ModelState())  # type: ignore[arg-type]  # neither observer asks for the run
    assert heard == [ModelState()]
    assert str(warned[0].message) == (
        "plugin 'bad' (acme 1.0) failed in aligner_step_started: RuntimeError('tracker is down')"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"name": "DPO"}, "a stage needs a lower-case `name`"),
        (
            {"name": "dpo", "requires": frozenset({"polisy"})},
            "`requires` contains 'polisy', which is not a slot",
        ),
        (
            {"name": "dpo", "__module__": "aligner_x.stage", "declares": {"aligner_y.head": "A."}},
            "`declares` contains 'aligner_y.head', which is not a lower-case name after 'aligner_x.'",
        ),
    ],
)
def test_a_misdeclared_stage_is_refused_when_its_class_is_made(parts: dict, message: str) -> None:
    with pytest.raises(AlignerError, match=message):
        type("Made", (stage_called("base"),), parts)
