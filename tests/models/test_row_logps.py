"""Log-probabilities of rows, against a plain loop and the losses of transformers and TRL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)
from trl import SFTConfig, SFTTrainer

from aligner.models import logps as module
from aligner.models.logps import ScoredRow, row_logps

WORDS = 40


def llama() -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.4,
        )
    ).eval()


def mamba() -> nn.Module:
    torch.manual_seed(0)
    return MambaForCausalLM(
        MambaConfig(vocab_size=WORDS, hidden_size=16, state_size=4, num_hidden_layers=2)
    ).eval()


def prompt_tuned() -> nn.Module:
    return get_peft_model(
        llama(), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    ).eval()


def rows(number: int = 11) -> list[ScoredRow]:
    torch.manual_seed(2)
    made = []
    for i in range(number):
        length = 2 + (7 * i) % 13
        tokens = tuple(torch.randint(0, WORDS, (length,)).tolist())
        counted = tuple(bool(place >= length // 3 and place % 4 != 1) for place in range(length))
        made.append(ScoredRow(tokens, counted))
    return [*made, ScoredRow((5, 6), (True, False)), ScoredRow((5, 6), (True, True))]


def one_by_one(model: nn.Module, row: ScoredRow) -> list[float]:
    """Without padding, batches or cut logits: one forward a token."""
    found = []
    with torch.no_grad():
        for place in range(1, len(row.tokens)):
            if row.mask[place]:
                logits = model(input_ids=torch.tensor([row.tokens[:place]])).logits[0, -1]
                found.append(float(logits.double().log_softmax(-1)[row.tokens[place]]))
    return found


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("make", [llama, mamba, prompt_tuned])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_log_probabilities_are_those_of_a_plain_loop(make: object, batch_size: int) -> None:
    model = make()  # type: ignore[operator]
    found = row_logps(model, rows(), batch_size=batch_size)
    for row, logps in zip(rows(), found, strict=True):
        assert logps.tolist() == pytest.approx(one_by_one(model, row), abs=2e-5)


def test_the_first_token_never_counts_since_nothing_predicts_it() -> None:
    found = row_logps(llama(), rows(), batch_size=4)
    assert [len(logps) for logps in found[-2:]] == [0, 1]


def test_logits_are_never_held_beyond_what_is_allowed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = llama(), []
    whole = row_logps(model, rows(), batch_size=100)
    model.register_forward_hook(lambda m, i, output: seen.append(output.logits.numel()))
    monkeypatch.setattr(module, "LOGITS_PER_BATCH", 800)
    pieces = row_logps(model, rows(), batch_size=100)
    assert max(seen) <= 800
    assert len(seen) > 3
    for item, other in zip(whole, pieces, strict=True):
        assert item.tolist() == pytest.approx(other.tolist(), abs=1e-5)


def test_the_loss_is_that_of_transformers_and_trl_on_the_same_batch(tmp_path: Path) -> None:
    model, batch = llama(), rows()[:-2]
    labels = [
        [token if counted else -100 for token, counted in zip(row.tokens, row.mask, strict=True)]
        for row in batch
    ]
    loss = -float(torch.cat(row_logps(model, batch, batch_size=4)).mean())

    ids = pad_sequence([torch.tensor(row.tokens) for row in batch], batch_first=True)
    targets = pad_sequence([torch.tensor(item) for item in labels], True, padding_value=-100)
    with torch.no_grad():
        theirs = float(model(input_ids=ids, labels=targets).loss)
    assert loss == pytest.approx(theirs, abs=1e-5)

    data = Dataset.from_list(
        [
            {"input_ids": list(row.tokens), "labels": item}
            for row, item in zip(batch, labels, strict=True)
        ]
    )
    words = Tokenizer(WordLevel({str(i): i for i in range(WORDS)}, unk_token="0"))
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            max_length=None,
            per_device_eval_batch_size=len(batch),
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=data,
        eval_dataset=data,
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="0", eos_token="1"
        ),
    )
    assert loss == pytest.approx(trainer.evaluate()["eval_loss"], abs=1e-5)
