from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from aligner.errors import ChainError
from aligner.run.folder import RunFolder
from aligner.run.lock import locked
from aligner.run.store import MANIFEST, FinishedStep, Store
from aligner.state import Artifact, ModelState

KEY = "0123456789abcdef" * 4


def commit(store: Store, text: str = "weights") -> FinishedStep:
    work = store.work_folder(KEY)
    (work / "policy").mkdir(exist_ok=True)
    (work / "policy" / "model.safetensors").write_text(text)
    return store.commit(
        KEY,
        stage="train",
        step="first",
        state=ModelState(policy=Artifact(path=str(work / "policy"), hash="h", made_by="first")),
        provides=frozenset({"policy"}),
        determinants={"seed": 1},
        metrics={"loss": 0.5},
        seconds=1.23456,
    )


def test_a_committed_step_is_found_complete_with_current_paths(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store)
    found = store.find(KEY)
    assert found is not None
    assert found.damage(hashes=True) == ""
    assert found.state().get("policy").path == str(found.folder / "policy")
    assert (found.step, found.metrics, found.seconds) == ("first", {"loss": 0.5}, 1.235)
    assert [path.name for path in store.folder.iterdir()] == [KEY[:16]]


def test_a_step_that_is_not_committed_is_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.work_folder(KEY) / "half").write_text("written")
    assert store.find(KEY) is None
    assert (store.work_folder(KEY) / "half").read_text() == "written"


def test_a_flipped_byte_and_a_missing_file_are_noticed(tmp_path: Path) -> None:
    done = commit(Store(tmp_path))
    weights = done.folder / "policy" / "model.safetensors"
    weights.write_text("wEights")
    assert done.damage(hashes=False) == ""
    assert done.damage(hashes=True) == f"{weights} differs from what was saved"
    weights.unlink()
    assert done.damage(hashes=False) == f"{weights} is missing"


def test_a_changed_manifest_is_no_finished_step(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = commit(store).folder / MANIFEST
    raw = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(raw | {"metrics": {"loss": 0.0}}))
    assert store.find(KEY) is None


def test_a_step_with_the_same_first_letters_is_not_mistaken_for_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store)
    assert store.find(KEY[:16] + "f" * 48) is None


def test_committing_again_replaces_the_old_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store)
    done = commit(store, "better")
    assert (done.folder / "policy" / "model.safetensors").read_text() == "better"
    assert [path.name for path in store.folder.iterdir()] == [KEY[:16]]


def test_the_folder_of_runs_can_be_moved(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = commit(Store(runs))
    run = RunFolder(runs / "mine")
    run.begin("name: mine\n", ["first"])
    run.link(1, "first", done.folder)
    runs.rename(tmp_path / "elsewhere")
    moved = RunFolder(tmp_path / "elsewhere" / "mine")
    [(number, name, step)] = list(moved.finished())
    assert (number, name) == (1, "first")
    assert Path(step.state().get("policy").path).is_dir()


def test_links_to_steps_that_the_recipe_no_longer_has_are_removed(tmp_path: Path) -> None:
    done = commit(Store(tmp_path))
    run = RunFolder(tmp_path / "mine")
    run.begin("", ["first", "second"])
    run.link(1, "first", done.folder)
    run.link(2, "second", done.folder)
    run.begin("", ["first"])
    assert [name for _, name, _ in run.finished()] == ["first"]


def hold(folder: Path, held: object, done: object) -> None:
    with locked(folder):
        held.set()  # type: ignore[attr-defined]
        done.wait(20)  # type: ignore[attr-defined]


def test_a_second_run_in_one_folder_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, done))
    other.start()
    assert held.wait(20)
    with pytest.raises(ChainError) as caught, locked(tmp_path):
        pass
    assert str(caught.value) == (
        f"{tmp_path}: another process ({other.pid}) is running in this folder\n"
        "  hint: wait for it, stop it, or give this run its own name with --name"
    )
    other.kill()
    other.join()
    with locked(tmp_path):
        pass
