"""Log-probabilities against a plain loop and the libraries' own losses; distances by hand."""

from __future__ import annotations

import math
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

from aligner_evaluate import likelihood
from aligner_evaluate.likelihood import Marked, distance, loss_and_perplexity, token_logps

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


def rows(number: int = 11) -> list[Marked]:
    torch.manual_seed(2)
    made = []
    for i in range(number):
        length = 2 + (7 * i) % 13
        tokens = tuple(torch.randint(0, WORDS, (length,)).tolist())
        counted = tuple(bool(place >= length // 3 and place % 4 != 1) for place in range(length))
        made.append(Marked(tokens, counted))
    return [*made, Marked((5, 6), (True, False)), Marked((5, 6), (True, True))]


def one_by_one(model: nn.Module, row: Marked) -> list[float]:
    """Without padding, batches or cut logits: one forward a token."""
    found = []
    with torch.no_grad():
        for place in range(1, len(row.tokens)):
            if row.counted[place]:
                logits = model(input_ids=torch.tensor([row.tokens[:place]])).logits[0, -1]
                found.append(float(logits.double().log_softmax(-1)[row.tokens[place]]))
    return found


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("make", [llama, mamba, prompt_tuned])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_log_probabilities_are_those_of_a_plain_loop(make: object, batch_size: int) -> None:
    model = make()  # type: ignore[operator]
    found = token_logps(model, rows(), batch_size=batch_size)
    for row, logps in zip(rows(), found, strict=True):
        assert logps.tolist() == pytest.approx(one_by_one(model, row), abs=2e-5)


def test_the_first_token_never_counts_since_nothing_predicts_it() -> None:
    found = token_logps(llama(), rows(), batch_size=4)
    assert [len(logps) for logps in found[-2:]] == [0, 1]


def test_logits_are_never_held_beyond_what_is_allowed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = llama(), []
    whole = token_logps(model, rows(), batch_size=100)
    model.register_forward_hook(lambda m, i, output: seen.append(output.logits.numel()))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 800)
    pieces = token_logps(model, rows(), batch_size=100)
    assert max(seen) <= 800
    assert len(seen) > 3
    for one, other in zip(whole, pieces, strict=True):
        assert one.tolist() == pytest.approx(other.tolist(), abs=1e-5)


def test_the_loss_is_that_of_transformers_and_trl_on_the_same_batch(tmp_path: Path) -> None:
    model, batch = llama(), rows()[:-2]
    labels = [
        [token if counted else -100 for token, counted in zip(row.tokens, row.counted, strict=True)]
        for row in batch
    ]
    loss, perplexity = loss_and_perplexity(token_logps(model, batch, batch_size=4))

    ids = pad_sequence([torch.tensor(row.tokens) for row in batch], batch_first=True)
    targets = pad_sequence([torch.tensor(one) for one in labels], True, padding_value=-100)
    with torch.no_grad():
        theirs = float(model(input_ids=ids, labels=targets).loss)
    assert loss == pytest.approx(theirs, abs=1e-5)
    assert perplexity == pytest.approx(math.exp(theirs), rel=1e-5)

    data = Dataset.from_list(
        [
            {"input_ids": list(row.tokens), "labels": one}
            for row, one in zip(batch, labels, strict=True)
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


def test_every_token_weighs_the_same_whatever_row_it_is_in() -> None:
    """One token at ln 1/2 and three at ln 1/8: (ln 2 + 3 ln 8) / 4 = 2.5 ln 2, perplexity 2^2.5."""
    logps = [torch.tensor([0.5]).log(), torch.tensor([0.125] * 3).log()]
    loss, perplexity = loss_and_perplexity(logps)
    assert loss == pytest.approx(2.5 * math.log(2))
    assert perplexity == pytest.approx(2**2.5)


def test_a_hopeless_loss_has_a_finite_perplexity() -> None:
    assert math.isfinite(loss_and_perplexity([torch.tensor([-5000.0])])[1])


def test_distances_are_those_worked_by_hand() -> None:
    """Three tokens with p = 1/2, 1/2, 1/4 and q = 1/4, 1/2, 1/2.

    log p/q = ln 2, 0, -ln 2: k1 = 0. q/p = 1/2, 1, 2: k3 terms are 1/2 - 1 + ln 2, 0, 2 - 1 - ln 2,
    which sum to 1/2, so k3 = 1/6.
    """
    p = [torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25]).log()]
    q = [torch.tensor([0.25, 0.5]).log(), torch.tensor([0.5]).log()]
    found = distance(p, q)
    assert found.k1 == pytest.approx(0, abs=1e-7)
    assert found.k3 == pytest.approx(1 / 6)
    assert distance(q, p).k3 == pytest.approx(1 / 6)
    same = distance(p, p)
    assert (same.k1, same.k3) == (0, 0)


def test_both_estimates_come_to_the_true_divergence() -> None:
    """p = (0.7, 0.2, 0.1), q = (0.5, 0.3, 0.2): KL = 0.7 ln 1.4 + 0.2 ln 2/3 + 0.1 ln 1/2 = 0.0851.

    The samples are in the exact shares 7 : 2 : 1, so both estimators give the expectation itself.
    """
    tokens = torch.tensor([0] * 7 + [1] * 2 + [2])
    p, q = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    true = 0.7 * math.log(1.4) + 0.2 * math.log(2 / 3) + 0.1 * math.log(1 / 2)
    found = distance([p[tokens]], [q[tokens]])
    assert found.k1 == pytest.approx(true, abs=1e-6)
    assert found.k3 == pytest.approx(true, abs=1e-6)
