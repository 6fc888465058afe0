"""Exported folders, loaded with plain transformers and peft."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.export import weights
from aligner.export.options import ExportOptions
from aligner.models.reward import load_reward
from aligner.models.save import save_model
from aligner.run.selection import find_run, select_step
from aligner.state import Artifact, ModelCache

Aligner = Callable[..., tuple[int, str, str]]
PROMPTS = ["the small dog sees a big cat", "a", "red cat"]
STARTED = "checking the run's files …\nwriting the weights and loading them back …\n"
UNLICENSED = "  the model card states no license; --license adds one\n"


def _plain_answers(model: Any, folder: Path, **more: Any) -> list[str]:
    """Return the answers of plain transformers with the folder's own settings."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for prompt in PROMPTS:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=30, **more)[0]
        answer = tokens[inputs["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(answer, skip_special_tokens=True))
    return answers


def _generated(aligner: Aligner, folder: Path) -> list[str]:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    code, out, _ = aligner("generate", "small", str(path), "--max-new-tokens", "30")
    assert code == 0
    return [json.loads(line)["answer"] for line in out.splitlines()]


def _file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plain_generate_from_the_folder_gives_the_tokens_of_aligner_generate(
    aligner: Aligner, tmp_path: Path
) -> None:
    to = tmp_path / "model"
    code, out, err = aligner("export", "small", "--to", str(to))
    assert (code, err) == (0, STARTED)
    expected = (
        rf"{re.escape(str(to))}: policy of step 'dpo', whole weights in float32, [\d.]+ kB\n"
        r"  loaded back with plain libraries: log-probabilities identical bit for bit "
        r"\(3 prompts, \d+ tokens\)\n"
        r"  merging changed no log-probability by more than [\d.e-]+\n"
    )
    assert re.fullmatch(expected + re.escape(UNLICENSED), out)
    model = AutoModelForCausalLM.from_pretrained(to)
    assert _plain_answers(model, to) == _generated(aligner, tmp_path)


def test_the_generation_settings_have_the_special_tokens(aligner: Aligner, tmp_path: Path) -> None:
    for form in ("--merge", "--adapter"):
        to = tmp_path / form.strip("-")
        aligner("export", "small", "--to", str(to), form)
        tokenizer = AutoTokenizer.from_pretrained(to)
        settings = GenerationConfig.from_pretrained(to)
        end = tokenizer.convert_tokens_to_ids("<|end|>")
        # What the template ends answers with, and what the model ended texts with before.
        assert settings.eos_token_id == [end, tokenizer.convert_tokens_to_ids("</s>")]
        assert settings.pad_token_id == tokenizer.pad_token_id
        assert settings.bos_token_id == tokenizer.bos_token_id
        assert "<|assistant|>" in tokenizer.chat_template


def test_the_end_token_of_the_template_is_added_to_those_of_the_model(
    small_run: Path, tmp_path: Path
) -> None:
    chosen = select_step(find_run(small_run / "runs", "small"), "chat", slot="policy")
    shutil.copytree(chosen.artifact("policy").path, tmp_path / "before")
    (tmp_path / "before" / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    (tmp_path / "after").mkdir()
    tokenizer = load_tokenizer(chosen.artifact("tokenizer"), ModelCache())
    weights.write_weights(
        Artifact(path=str(tmp_path / "before")),
        tokenizer,
        tmp_path / "after",
        ExportOptions(to=tmp_path / "after"),
    )
    settings = GenerationConfig.from_pretrained(tmp_path / "after")
    assert settings.eos_token_id == [tokenizer.convert_tokens_to_ids("<|end|>"), 7, 2]
    assert settings.pad_token_id == tokenizer.pad_token_id


def test_an_exported_adapter_loads_with_its_base_as_the_same_model(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "adapter"
    code, out, _ = aligner("export", "small", "--to", str(to), "--adapter", "--json")
    base = json.loads((to / "adapter_config.json").read_text())["base_model_name_or_path"]
    result = json.loads(out)
    assert (code, result["form"], result["base"]) == (0, "adapter", base)
    differences = [v for k, v in result["verification"].items() if k.endswith("_difference")]
    assert differences == [0.0, None, None]
    assert result["notes"][0] == f"the adapter needs its base model in this folder: {base}"
    assert Path(base).is_relative_to(small_run / "runs" / ".steps")
    assert not (to / "model.safetensors").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(to)
    settings = GenerationConfig.from_pretrained(to)
    assert _plain_answers(model, to, generation_config=settings) == _generated(aligner, tmp_path)


def test_weights_are_written_in_the_requested_dtype(aligner: Aligner, tmp_path: Path) -> None:
    to = tmp_path / "half"
    words = ("--to", str(to), "--dtype", "bfloat16", "--license", "mit", "--json")
    code, out, _ = aligner("export", "small", *words)
    verification = json.loads(out)["verification"]
    with safe_open(to / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert (code, verification["reload_difference"], json.loads(out)["notes"]) == (0, 0.0, [])
    assert 0 <= verification["merge_difference"] < 1e-4
    assert 1e-4 < verification["rounding_difference"] < 0.5


def test_an_exported_reward_model_gives_the_scores_of_the_runs(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "reward"
    code, out, _ = aligner("export", "small", "--to", str(to), "--slot", "reward")
    assert (code, out.splitlines()[1].split(" (")[0]) == (
        0,
        "  loaded back with plain libraries: scores identical bit for bit",
    )
    chosen = select_step(find_run(small_run / "runs", "small"), "reward", slot="reward")
    ours = load_reward(chosen.artifact("reward"), ModelCache())
    plain = AutoModelForSequenceClassification.from_pretrained(to)
    tokenizer = AutoTokenizer.from_pretrained(to)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "cat"}]
    inputs = tokenizer.apply_chat_template(turns, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, ours(**inputs).logits)


def test_a_step_before_the_template_is_exported_as_it_is(aligner: Aligner, tmp_path: Path) -> None:
    to = tmp_path / "base"
    assert aligner("export", "small", "--step", "pretrain", "--to", str(to))[0] == 0
    assert not (to / "chat_template.jinja").exists()
    assert 'tokenizer("…", return_tensors="pt")' in (to / "README.md").read_text()


def test_a_folder_is_replaced_only_with_force_and_only_if_it_contains_a_model(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "model"
    to.mkdir()
    words = ("export", "small", "--step", "chat", "--to", str(to))
    assert aligner(*words)[0] == 0
    (to / "mine.txt").write_text("kept?")
    hint = "  hint: choose another folder, or replace it with --force\n"
    assert aligner(*words) == (2, "", f"{to}: the folder is not empty\n{hint}")
    assert (to / "mine.txt").exists()
    assert aligner(*words, "--force")[0] == 0
    assert not (to / "mine.txt").exists()
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    message = (
        f"{other}: the folder contains no model, so --force does not replace it\n"
        "  hint: choose another folder\n"
    )
    assert aligner("export", "small", "--to", str(other), "--force") == (2, "", message)
    own = select_step(find_run(small_run / "runs", "small"), "chat", slot="policy")
    path = own.artifact("policy").path
    message = f"{path}: the folder contains the run's own models\n"
    assert aligner("export", "small", "--to", path, "--force") == (2, "", message)
    assert _file_names(tmp_path) == ["documents", "model"]


def test_a_model_that_loads_back_differently_is_not_exported(
    aligner: Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(model: Any, folder: Path, **more: Any) -> Any:
        with torch.no_grad():
            model.get_output_embeddings().weight[5] += 0.5
        return save_model(model, folder, **more)

    monkeypatch.setattr(weights, "save_model", damage)
    code, out, err = aligner("export", "small", "--to", str(tmp_path / "model"))
    assert (code, out) == (1, "")
    assert re.fullmatch(
        re.escape(STARTED) + r"the exported model differs from the run's model by up to \S+\n"
        r"  hint: nothing was exported; plain transformers loads this architecture differently\n",
        err,
    )
    assert _file_names(tmp_path) == []


def test_a_run_whose_files_were_changed_is_not_exported(
    aligner: Aligner, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_run / "runs", tmp_path / "runs", symlinks=True)
    adapter = find_run(tmp_path / "runs", "small")
    chosen = select_step(adapter, "dpo", slot="policy")
    file = Path(chosen.artifact("policy").adapters[-1]) / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    words = ("--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "model"))
    code, _, err = aligner("export", "small", "--step", "dpo", *words)
    assert code == 2
    assert "have changed since they were saved" in err.splitlines()[1]
    assert _file_names(tmp_path) == ["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--adapter", "--dtype", "float16", "--slot", "reward", "--gguf", "--private"),
         "--dtype does not apply to --adapter, which copies the adapter unchanged\n"
         "  hint: leave one of them out\n"
         "a reward model has a head besides its adapter, so --adapter cannot export it\n"
         "  hint: export it merged\n"
         "--gguf needs a merged policy\n"
         "  hint: leave out --gguf, or --adapter and --slot\n"
         "--private has no effect without --push-to\n  hint: add --push-to org/name\n"),
        (("--push-to", "me"), "'me' is not a valid Hub id\n  hint: write it as org/name\n"),
        (("--license", "mit", "--license-name", "x"),
         "--license-name and --license-link need `--license other`\n"
         "  hint: a license known to the Hub needs only its id\n"),
        (("--step", "chat", "--slot", "reward"),
         "runs/small: step 'chat' has no reward\n  hint: steps with a reward: reward\n"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_combined_are_refused(
    aligner: Aligner, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert aligner("export", "small", "--to", str(tmp_path / "model"), *words) == (2, "", message)
    assert _file_names(tmp_path) == []


def test_whole_weights_cannot_be_exported_as_an_adapter(aligner: Aligner, tmp_path: Path) -> None:
    words = ("--step", "chat", "--adapter", "--to", str(tmp_path / "model"))
    message = (
        "runs/small/steps/2-chat: --adapter exports a single adapter, but the policy has none\n"
        "  hint: export it merged, which is the default\n"
    )
    assert aligner("export", "small", *words) == (2, "", f"checking the run's files …\n{message}")
    assert _file_names(tmp_path) == []
