"""Settings that determine the result and have no equivalent are errors, with their lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aligner.cli import main

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Import a file with this text, which must fail; return the errors."""

    def act(text: str, *also: str) -> str:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
        assert main(["import", "f.yaml", *also]) == 2
        assert not (tmp_path / "f-aligner.yaml").exists()
        return capsys.readouterr().err

    return act


def test_a_method_without_a_stage_is_refused(refused: Refused) -> None:
    assert refused("base_model: m\nrl: kto\ndatasets: [{path: d}]\n") == (
        "f.yaml:2: rl: importing Axolotl's 'kto' is not supported\n"
        "  hint: there are dpo, ipo; use dpo for preference pairs\n"
    )
    assert refused("stage: kto\nfinetuning_type: lora\n") == (
        "f.yaml:1: stage: importing LLaMA-Factory's 'kto' is not supported\n"
        "  hint: there are pt, sft, rm, ppo, dpo; use dpo for preference pairs\n"
    )
    assert refused("use_peft: true\n", "--method", "grpo") == (
        "f.yaml: importing `trl grpo` is not supported\n  hint: there are sft, dpo, kto, reward\n"
    )


def test_all_errors_are_reported_at_once(refused: Refused) -> None:
    text = (
        "stage: dpo\nfinetuning_type: oft\ndataset: d\ndataset_dir: ONLINE\npref_loss: simpo\n"
        "use_galore: true\n"
    )
    assert refused(text) == (
        "f.yaml:6: use_galore: this training method is not supported\n"
        "f.yaml: model_name_or_path is missing\n"
        "f.yaml:2: finetuning_type: 'oft' is not supported, only lora and full\n"
        "f.yaml:5: pref_loss: 'simpo' is not supported\n"
        "  hint: there are sigmoid, hinge, ipo\n"
    )


def test_a_trl_file_without_a_known_command_needs_method(refused: Refused) -> None:
    assert refused("model_name_or_path: m\ndataset_name: d/e\n") == (
        "f.yaml: the TRL command of this file is unclear\n"
        "  hint: set it with --method: sft, dpo, kto, reward\n"
    )


def test_an_unknown_file_format_is_an_error(refused: Refused) -> None:
    assert refused("learning_rate: 1e-4\n") == (
        "f.yaml: this is not recognized as a file of another tool\n"
        "  hint: name the tool with --from: axolotl, llama-factory, trl\n"
    )
    assert refused("learning_rate: 1e-4\n", "--from", "tlr") == (
        "--from: no plugin imports files of 'tlr'\n  hint: did you mean 'trl'?\n"
    )


def test_ppo_needs_the_file_that_trains_its_reward_model(refused: Refused) -> None:
    text = (
        "model_name_or_path: m/n\nstage: ppo\nreward_model: saves/r\n"
        "dataset: d\ndataset_dir: ONLINE\ntemplate: llama3\n"
    )
    assert refused(text) == (
        "f.yaml:3: the reward model is trained by another file, and the chain needs it as a step\n"
        "  hint: give that file before this one: aligner import REWARD.yaml f.yaml\n"
    )


def test_an_adapter_that_no_earlier_file_trains_is_refused(refused: Refused) -> None:
    text = (
        "model_name_or_path: m/n\nstage: sft\nadapter_name_or_path: saves/a\n"
        "dataset: d\ndataset_dir: ONLINE\ntemplate: llama3\n"
    )
    assert refused(text) == (
        "f.yaml:3: adapter_name_or_path: a chain cannot start from an adapter\n"
        "  hint: merge it into the model first, or give the file that trains it before this one\n"
    )


def test_names_of_data_sets_are_resolved_in_the_working_directory(
    refused: Refused, tmp_path: Path
) -> None:
    text = "model_name_or_path: m/n\nstage: sft\ndataset: identity\ntemplate: llama3\n"
    assert refused(text) == (
        f"f.yaml:3: its data sets are defined in {tmp_path}/data/dataset_info.json, which "
        "cannot be read: No such file or directory\n"
        "  hint: run this command in the folder where you run llamafactory-cli\n"
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text('{"identitty": {"file_name": "i.json"}}')
    assert refused(text) == (
        "f.yaml:3: dataset_info.json has no data set 'identity'\n"
        "  hint: did you mean 'identitty'?\n"
        "f.yaml:3: no data set could be read from dataset\n"
    )


def test_an_existing_file_is_not_overwritten(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    assert refused("use_peft: true\n", "--out", "there.yaml") == (
        "--out: there.yaml exists already\n  hint: choose another file with --out\n"
    )
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_an_unknown_setting_is_noted_with_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "model_name_or_path: m/n\ndataset_name: d/e\nbeta: 0.2\nlearning_rat: 1e-5\n"
    (tmp_path / "f.yaml").write_text(text)
    assert main(["import", "f.yaml"]) == 0
    assert (
        "no counterpart:\n  f.yaml:4: learning_rat: not a known setting of TRL; "
        "did you mean 'learning_rate'?\n"
    ) in capsys.readouterr().out


def test_a_setting_without_effect_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        "model_name_or_path: m/n\nstage: sft\nfinetuning_type: full\nlora_dropout: 0.1\n"
        "dataset: d\ndataset_dir: ONLINE\ntemplate: llama3\npref_beta: 0.1\npref_loss: ipo\n"
    )
    (tmp_path / "f.yaml").write_text(text)
    assert main(["import", "f.yaml"]) == 0
    out = capsys.readouterr().out
    assert "  f.yaml:4: lora_dropout: it has no effect in this file\n" in out
    assert "  f.yaml:8: pref_beta: the stage 'sft' has no such option\n" in out
    assert "  f.yaml:9: pref_loss: it has no effect in this file\n" in out


def test_a_value_of_another_type_is_refused(refused: Refused) -> None:
    text = (
        "model_name_or_path: m/n\nstage: sft\nfinetuning_type: lora\nlora_rank: eight\n"
        "dataset: d\ndataset_dir: ONLINE\ntemplate: llama3\n"
    )
    assert refused(text) == (
        "f.yaml: a value has another type than LLaMA-Factory takes: 'eight' is not a number\n"
    )


def test_errors_of_stage_options_have_the_line_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "model_name_or_path: m/n\ndataset_name: d/e\nbeta: 0.2\nlabel_smoothing: 0.1\n"
    (tmp_path / "f.yaml").write_text(text)
    assert main(["import", "f.yaml", "--out", "r.yaml"]) == 2
    captured = capsys.readouterr()
    line = 1 + (tmp_path / "r.yaml").read_text().splitlines().index("- stage: dpo")
    assert captured.err == (
        f"r.yaml:{line}: stage 'dpo': label_smoothing has no effect on loss_type sigmoid; "
        "the losses that use it are aot, aot_unpaired, exo_pair, robust\n"
    )
    assert "r.yaml: chat → dpo\n" in captured.out
