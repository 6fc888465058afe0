"""The work of the rdpo stage. Shapes: B pairs, N = 2B rows, T tokens, V words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid, pad
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from aligner import Artifact, ModelState, StepContext
from aligner.data.encoding.prepare import prepare_preferences
from aligner.data.encoding.tokenizers import load_tokenizer
from aligner.models.clean import base_model
from aligner.models.policy import load_policy
from aligner.models.precision import device, precision_of
from aligner.models.save import save_model
from aligner.train.arguments import optimizer_steps, trainer_arguments
from aligner.train.trainer import StepTrainer, discard_checkpoints, run_trainer
from aligner_brevity.stage import RDPOOptions

SIDES = ("chosen", "rejected")


def train(options: RDPOOptions, state: ModelState, context: StepContext) -> Artifact:
    """Prefer chosen over rejected, held to the policy as it came in; save the result."""
    tokenizer = load_tokenizer(state.get("tokenizer"), context.model_cache)
    data = prepare_preferences(context, options, tokenizer)
    prepared = load_policy(
        state.get("policy"),
        context.model_cache,
        options,
        step=context.step,
        seed=context.seed,
        where=context.where,
    )
    model = base_model(prepared.model)
    # Before the first update the policy still is the reference, whatever its adapters.
    rows = _with_reference(model, rows_of(data.train), options.per_device_train_batch_size)
    held_out = _with_reference(model, rows_of(data.held_out), options.per_device_train_batch_size)
    steps = optimizer_steps(len(rows), options, world=context.world)
    trainer = _RDPOTrainer(
        beta=options.beta,
        alpha=options.alpha,
        model=model,
        args=_arguments(options, context, steps=steps, measures=bool(held_out)),
        data_collator=collate,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(options.early_stopping_patience)]
        if options.early_stopping_patience
        else None,
    )
    watch = run_trainer(trainer, context, steps=steps)
    context.record(loss=watch.last["loss"])
    if held_out:
        context.record(eval_loss=trainer.evaluate()["eval_loss"])
    discard_checkpoints(context)
    return save_model(
        prepared.model,
        context.folder / "policy",
        model_cache=context.model_cache,
        base=prepared.base,
        made_by=context.step,
    )


def rdpo_loss(margins_B: Tensor, lengths_B2: Tensor, *, beta: float, alpha: float) -> Tensor:
    """The mean over pairs of -log sigmoid(beta * margin + alpha * (|chosen| - |rejected|)).

    Args:
        margins_B: Log-ratio of policy to reference for the chosen answer less that for the rejected.
        lengths_B2: Tokens of the chosen and of the rejected answer.
    """
    longer_B = (lengths_B2[:, 0] - lengths_B2[:, 1]).to(margins_B.dtype)
    return -logsigmoid(beta * margins_B + alpha * longer_B).mean()


class _RDPOTrainer(StepTrainer, Trainer):
    """Trains on rows that hold the reference's log-probabilities already."""

    def __init__(self, *, beta: float, alpha: float, **arguments: Any) -> None:
        self._beta, self._alpha = beta, alpha
        super().__init__(**arguments)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Tensor:
        logps_B2 = answer_logps(model, inputs)
        ratios_B2 = logps_B2 - inputs["reference"].to(logps_B2.dtype)
        margins_B = ratios_B2[:, 0] - ratios_B2[:, 1]
        lengths_B2 = inputs["answer"].sum(-1).view(-1, 2)
        return rdpo_loss(margins_B, lengths_B2, beta=self._beta, alpha=self._alpha)

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss, None, None


def answer_logps(model: Any, batch: Any) -> Tensor:
    """Log-probabilities of the answers, summed over their tokens: one row a pair, chosen first."""
    logits_NTV: Tensor = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits
    logps_NTV = logits_NTV[:, :-1].float().log_softmax(-1)
    taken_NT = logps_NTV.gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    answers_NT: Tensor = batch["answer"][:, 1:]
    return (taken_NT * answers_NT).sum(-1).view(-1, 2)


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pairs as 2B padded rows, chosen and rejected in turn."""
    answers = [(row["prompt_ids"], row[f"{side}_ids"]) for row in rows for side in SIDES]
    longest = max(len(prompt) + len(answer) for prompt, answer in answers)

    def padded(values: list[int]) -> Tensor:
        return pad(torch.tensor(values), (0, longest - len(values)))

    batch = {
        "input_ids": torch.stack([padded([*prompt, *answer]) for prompt, answer in answers]),
        "attention_mask": torch.stack([padded([1] * len([*p, *a])) for p, a in answers]),
        "answer": torch.stack([padded([0] * len(p) + [1] * len(a)) for p, a in answers]),
    }
    if "reference" in rows[0]:
        batch["reference"] = torch.tensor([row["reference"] for row in rows])
    return batch


def rows_of(pairs: Iterable[Any]) -> list[dict[str, Any]]:
    """What the collator reads of pairs, and their lengths, by which batches are made."""
    return [
        {
            "prompt_ids": pair.prompt_ids,
            "chosen_ids": pair.chosen_ids,
            "rejected_ids": pair.rejected_ids,
            "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
        }
        for pair in pairs
    ]


def _with_reference(model: Any, rows: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """`rows` with the log-probabilities that `model` gives their answers now."""
    model.eval()
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        batch = {name: tensor.to(model.device) for name, tensor in collate(some).items()}
        with torch.no_grad():
            for row, logps in zip(some, answer_logps(model, batch).tolist(), strict=True):
                row["reference"] = logps
    return rows


def _arguments(
    options: RDPOOptions, context: StepContext, *, steps: int, measures: bool
) -> TrainingArguments:
    return TrainingArguments(
        **trainer_arguments(
            options,
            context,
            learning_rate=options.learning_rate,
            precision=precision_of(options.precision),
            on_cpu=device().type == "cpu",
            steps=steps,
            measures=measures,
        ),
        remove_unused_columns=False,
    )
