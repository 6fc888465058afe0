"""Exported folders, read with nothing but the libraries everybody has."""

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
from aligner.export.spec import Wanted
from aligner.models.reward import load_reward
from aligner.models.save import save_model
from aligner.run.chosen import chosen_step, find_run
from aligner.state import Artifact, ModelCache

Aligner = Callable[..., tuple[int, str, str]]
ASKED = ["the small dog sees a big cat", "a", "red cat"]
BEGUN = "checking the run's files …\nwriting the weights and loading them back …\n"
UNLICENSED = "  the card states no licence; --license adds one\n"


def _plainly(model: Any, folder: Path, **more: Any) -> list[str]:
    """What a user of transformers gets, who takes the folder as it is."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for ask in ASKED:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": ask}], add_generation_prompt=True, return_tensors="pt"
        )
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=30, **more)[0]
        fresh = tokens[inputs["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(fresh, skip_special_tokens=True))
    return answers


def _generated(aligner: Aligner, folder: Path) -> list[str]:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": ask}) + "\n" for ask in ASKED))
    code, out, _ = aligner("generate", "small", str(path), "--max-new-tokens", "30")
    assert code == 0
    return [json.loads(line)["answer"] for line in out.splitlines()]


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plain_generate_from_the_folder_gives_the_tokens_of_aligner_generate(
    aligner: Aligner, tmp_path: Path
) -> None:
    to = tmp_path / "model"
    code, out, err = aligner("export", "small", "--to", str(to))
    assert (code, err) == (0, BEGUN)
    said = (
        rf"{re.escape(str(to))}: the policy of step 'dpo', whole weights in float32, [\d.]+ kB\n"
        r"  loaded back with plain libraries: the same log-probabilities to the bit "
        r"\(3 prompts, \d+ tokens\)\n"
        r"  merging moved no log-probability by more than [\d.e-]+\n"
    )
    assert re.fullmatch(said + re.escape(UNLICENSED), out)
    model = AutoModelForCausalLM.from_pretrained(to)
    assert _plainly(model, to) == _generated(aligner, tmp_path)


def test_the_settings_say_how_answers_begin_end_and_are_padded(
    aligner: Aligner, tmp_path: Path
) -> None:
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


def test_a_model_whose_settings_name_another_end_gets_the_templates_too(
    small_run: Path, tmp_path: Path
) -> None:
    chosen = chosen_step(find_run(small_run / "runs", "small"), "chat", slot="policy")
    shutil.copytree(chosen.artifact("policy").path, tmp_path / "before")
    (tmp_path / "before" / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    (tmp_path / "after").mkdir()
    tokenizer = load_tokenizer(chosen.artifact("tokenizer"), ModelCache())
    weights.write_weights(
        Artifact(path=str(tmp_path / "before")),
        tokenizer,
        tmp_path / "after",
        Wanted(to=tmp_path / "after"),
        where="",
    )
    settings = GenerationConfig.from_pretrained(tmp_path / "after")
    assert settings.eos_token_id == [tokenizer.convert_tokens_to_ids("<|end|>"), 7, 2]
    assert settings.pad_token_id == tokenizer.pad_token_id


def test_an_exported_adapter_finds_its_base_and_is_the_same_model(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "adapter"
    code, out, _ = aligner("export", "small", "--to", str(to), "--adapter", "--json")
    base = json.loads((to / "adapter_config.json").read_text())["base_model_name_or_path"]
    told = json.loads(out)
    proof = told["proof"]
    assert (code, told["form"], told["base"]) == (0, "adapter", base)
    assert (proof["loaded"], proof["merged"], proof["rounded"]) == (0.0, None, None)
    assert told["notes"][0] == f"it works only where its base is: {base}"
    assert Path(base).is_relative_to(small_run / "runs" / ".steps")
    assert not (to / "model.safetensors").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(to)
    settings = GenerationConfig.from_pretrained(to)
    assert _plainly(model, to, generation_config=settings) == _generated(aligner, tmp_path)


def test_weights_are_written_in_the_dtype_asked_for(aligner: Aligner, tmp_path: Path) -> None:
    to = tmp_path / "half"
    words = ("--to", str(to), "--dtype", "bfloat16", "--license", "mit", "--json")
    code, out, _ = aligner("export", "small", *words)
    proof = json.loads(out)["proof"]
    with safe_open(to / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert (code, proof["loaded"], json.loads(out)["notes"]) == (0, 0.0, [])
    assert 0 <= proof["merged"] < 1e-4 < proof["rounded"] < 0.5


def test_an_exported_reward_model_gives_the_scores_of_the_runs(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "reward"
    code, out, _ = aligner("export", "small", "--to", str(to), "--slot", "reward")
    assert (code, out.splitlines()[1][:57]) == (
        0,
        "  loaded back with plain libraries: the same scores to th",
    )
    chosen = chosen_step(find_run(small_run / "runs", "small"), "reward", slot="reward")
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


def test_a_folder_that_holds_something_is_replaced_only_when_asked_and_a_model(
    aligner: Aligner, small_run: Path, tmp_path: Path
) -> None:
    to = tmp_path / "model"
    to.mkdir()
    words = ("export", "small", "--step", "chat", "--to", str(to))
    assert aligner(*words)[0] == 0
    (to / "mine.txt").write_text("kept?")
    hint = "  hint: name another folder, or replace it with --force\n"
    assert aligner(*words) == (2, "", f"{to}: is not empty\n{hint}")
    assert (to / "mine.txt").exists()
    assert aligner(*words, "--force")[0] == 0
    assert not (to / "mine.txt").exists()
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    said = f"{other}: holds no model, so --force does not replace it\n  hint: name another folder\n"
    assert aligner("export", "small", "--to", str(other), "--force") == (2, "", said)
    own = chosen_step(find_run(small_run / "runs", "small"), "chat", slot="policy")
    path = own.artifact("policy").path
    said = f"{path}: the run's own models lie there\n"
    assert aligner("export", "small", "--to", path, "--force") == (2, "", said)
    assert _leftovers(tmp_path) == ["documents", "model"]


def test_a_model_that_loads_back_differently_is_not_exported(
    aligner: Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: Any, folder: Path, **more: Any) -> Any:
        with torch.no_grad():
            model.get_output_embeddings().weight[5] += 0.5
        return save_model(model, folder, **more)

    monkeypatch.setattr(weights, "save_model", spoilt)
    code, out, err = aligner("export", "small", "--to", str(tmp_path / "model"))
    assert (code, out) == (1, "")
    assert re.fullmatch(
        re.escape(BEGUN) + r"what was written loads as another model: an output differs by \S+\n"
        r"  hint: nothing was exported; plain transformers reads this architecture in another way\n",
        err,
    )
    assert _leftovers(tmp_path) == []


def test_a_run_whose_files_were_changed_is_not_exported(
    aligner: Aligner, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_run / "runs", tmp_path / "runs", symlinks=True)
    adapter = find_run(tmp_path / "runs", "small")
    chosen = chosen_step(adapter, "dpo", slot="policy")
    file = Path(chosen.artifact("policy").adapters[-1]) / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    words = ("--runs", str(tmp_path / "runs"), "--to", str(tmp_path / "model"))
    code, _, err = aligner("export", "small", "--step", "dpo", *words)
    assert code == 2
    assert "are not what was saved" in err.splitlines()[1]
    assert _leftovers(tmp_path) == ["runs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adapter", "--dtype", "float16", "--slot", "reward", "--gguf", "--private"),
         "--adapter writes the adapter as it was trained, and --dtype would change that\n"
         "  hint: leave one of them out\n"
         "a reward model's head is no adapter\n  hint: export it merged\n"
         "a GGUF file is made of a merged policy\n"
         "  hint: leave out --gguf, or --adapter and --slot\n"
         "--private says how to push\n  hint: add --push-to org/name\n"),
        (("--push-to", "me"), "'me' is no name on the hub\n  hint: write it as org/name\n"),
        (("--license", "mit", "--license-name", "x"),
         "a licence's name and link go with `--license other`\n"
         "  hint: known ones are named by their id alone\n"),
        (("--step", "chat", "--slot", "reward"),
         "runs/small: step 'chat' left no reward\n  hint: steps that did: reward\n"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    aligner: Aligner, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert aligner("export", "small", "--to", str(tmp_path / "model"), *words) == (2, "", said)
    assert _leftovers(tmp_path) == []


def test_whole_weights_are_no_adapter(aligner: Aligner, tmp_path: Path) -> None:
    words = ("--step", "chat", "--adapter", "--to", str(tmp_path / "model"))
    said = (
        "runs/small/steps/2-chat: the policy is whole weights, and --adapter writes a single one\n"
        "  hint: export it merged, which is the default\n"
    )
    assert aligner("export", "small", *words) == (2, "", BEGUN + said)
    assert _leftovers(tmp_path) == []
