"""The preview of each kind of stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aligner_brevity
import pytest
from aligner_brevity.options import RDPOOptions
from aligner_brevity.stage import RDPO

import aligner
from aligner import chain
from aligner.preview import PreviewSection
from aligner.testing import Nothing
from aligner_dpo.options import DPOOptions
from aligner_dpo.stage import DPO as DPO_STAGE
from tests.preview.conftest import spelled

Only = Callable[..., PreviewSection]
PlanContext = Callable[..., chain.ChainPreview]

SFT = {"stage": "sft", "data": "talks.jsonl", "per_device_train_batch_size": 3}
DPO = {"stage": "dpo", "data": "pairs.jsonl", "per_device_train_batch_size": 2}


def test_of_a_conversation_the_answer_is_trained_and_the_batch_is_filled_up(section: Only) -> None:
    shown = section(SFT)
    assert [spelled(row) for row in shown.rows] == [
        "<|user|>a cat<|end|><|assistant|>[b][ig][<|end|>]{<pad>}{<pad>}{<pad>}{<pad>}{<pad>}",
        "<|user|>the dog\nruns<|end|><|assistant|>[s][mal][l][ cat][<|end|>]",
    ]
    assert [row.origin for row in shown.rows] == ["talks.jsonl:1", "talks.jsonl:2"]
    assert shown.rows[0].sequences[0].notes == ("ends with <|end|>, trained",)
    (batch,) = shown.batches
    assert (batch.title, batch.num_sequences) == ("rows 1 to 3", 3)
    assert sum(batch.counts.values()) == 3 * batch.sequence_length


def test_a_row_is_shown_in_the_batch_of_its_neighbors(section: Only) -> None:
    alone = section({**SFT, "per_device_train_batch_size": 1}, rows=(1,)).rows[0].sequences[0]
    assert alone.counts["padding"] == 0
    late = section({**SFT, "per_device_train_batch_size": 2}, rows=(3,))
    assert [batch.title for batch in late.batches] == ["row 3"]


def test_training_on_everything_leaves_only_the_first_token_out(section: Only) -> None:
    sequence = section({**SFT, "train_on": "everything"}, rows=(1,)).rows[0].sequences[0]
    roles = [token.role for token in sequence.tokens if token.role != "padding"]
    assert roles == ["masked"] + ["trained"] * (len(roles) - 1)


def test_packed_rows_are_in_the_trained_bin_with_their_boundaries(section: Only) -> None:
    packed = {
        "stage": "sft",
        "data": "longer.jsonl",
        "packing": True,
        "max_length": 64,
        "per_device_train_batch_size": 2,
    }
    shown = section(packed, rows=(5,))
    (row,) = shown.rows
    sequence = row.sequences[0]
    assert any(name.startswith("row 5  longer.jsonl:5") for name in sequence.boundaries.values())
    assert row.origin == f"rows {', '.join(n.split()[1] for n in sequence.boundaries.values())}"
    assert sequence.counts["padding"] == 0
    for place in sequence.boundaries:
        assert (sequence.tokens[place].text, sequence.tokens[place].role) == ("<|user|>", "masked")
    answers = len(sequence.boundaries)
    assert sequence.notes == (f"{answers} of {answers} answers end with <|end|>, trained",)
    (batch,) = shown.batches
    assert (batch.num_sequences, batch.counts["padding"]) == (1, 0)
    again = section(packed, rows=("longer.jsonl:5",), required=True)
    assert again.rows == shown.rows


def test_a_stream_has_a_boundary_at_each_document_and_at_a_continued_one(section: Only) -> None:
    pretrain = {
        "stage": "pretrain",
        "data": "texts.jsonl",
        "max_length": 16,
        "per_device_train_batch_size": 2,
    }
    first, second = section(pretrain).rows
    assert first.sequences[0].boundaries[0] == "texts.jsonl:1"
    assert all(
        first.sequences[0].tokens[place].text == "<s>" for place in first.sequences[0].boundaries
    )
    going_on = second.sequences[0].boundaries[0]
    assert going_on == f"going on  {list(first.sequences[0].boundaries.values())[-1]}"
    assert spelled(second).count("[") == 15, "nothing predicts the first token of a row"


def test_documents_may_be_rows_of_their_own(section: Only) -> None:
    alone = {
        "stage": "pretrain",
        "data": "texts.jsonl",
        "stream": False,
        "per_device_train_batch_size": 4,
    }
    (row,) = section(alone, rows=(2,)).rows
    text = spelled(row).split("{")[0]
    assert text.startswith("<s>[")
    assert text.endswith("[</s>]")


def test_the_answers_of_a_pair_follow_the_shared_prompt(section: Only) -> None:
    row = section(DPO).rows[0]
    chosen, rejected = row.sequences
    assert (chosen.name, rejected.name) == ("chosen", "rejected")
    prompt = [token.text for token in chosen.tokens[: row.prompt_length]]
    assert (prompt[0], prompt[-1]) == ("<|user|>", "<|assistant|>")
    assert prompt == [token.text for token in rejected.tokens[: row.prompt_length]]
    assert {token.role for token in chosen.tokens[: row.prompt_length]} == {"masked"}
    for sequence, begins in ((chosen, "yes"), (rejected, "no")):
        answer = sequence.tokens[row.prompt_length :]
        assert "".join(token.text for token in answer).startswith(begins)
        assert {token.role for token in answer} <= {"trained", "padding"}
        assert sequence.notes == ("ends with <|end|>, trained",)
    assert len(chosen.tokens) == len(rejected.tokens)


def test_a_reward_model_is_trained_on_the_score_it_gives_at_the_last_token(section: Only) -> None:
    shown = section(
        {"stage": "reward", "data": "pairs.jsonl", "per_device_train_batch_size": 8}, rows=(1, 2, 3)
    )
    assert shown.trained_label == "scored"
    for row in shown.rows:
        assert row.details == ()
        for sequence in row.sequences:
            assert sequence.counts["trained"] == 1
            (place,) = (n for n, token in enumerate(sequence.tokens) if token.role == "trained")
            assert sequence.tokens[place].text == "<|end|>"
            assert {token.role for token in sequence.tokens[place + 1 :]} <= {"padding"}
            assert sequence.notes == (f"the score is read at position {place}, <|end|>",)
        assert row.sequences[0].tokens[row.prompt_length - 1].text == "<|assistant|>"


def test_margins_are_shown_if_the_data_has_them(section: Only) -> None:
    shown = section({"stage": "reward", "data": "margins.jsonl"}, rows=(1, 4))
    assert [row.details for row in shown.rows] == [("margin 0",), ("margin 1.5",)]


def test_prompts_are_padded_on_the_left_before_the_answer(
    preview_steps: PlanContext,
) -> None:
    ppo: dict[str, Any] = {
        "stage": "ppo",
        "data": "prompts.jsonl",
        "rewards": {"name": "toy_tasks"},
        "max_new_tokens": 8,
        "prompts": 4,
        "pretraining": {"data": "texts.jsonl", "batch_size": 3, "max_length": 32},
    }
    shown = preview_steps(ppo, rows=(1, 2, 3, 4, 5, 6))
    assert shown.errors == ()
    prompts, mixed = shown.steps[0].sections
    assert (prompts.option, mixed.option) == ("data", "pretraining.data")
    widths = set()
    for row in prompts.rows:
        sequence = row.sequences[0]
        widths.add(len(sequence.tokens))
        assert sequence.counts["trained"] == 0
        assert sequence.tokens[-1].text == "<|assistant|>"
        roles = [token.role for token in sequence.tokens]
        assert roles == sorted(roles, key=["padding", "masked"].index)
        assert sequence.notes == ("here the answer begins: up to 8 tokens, until <|end|> or </s>",)
    assert len(widths) == 1
    assert [batch.title for batch in mixed.batches] == ["rows 1 to 3", "rows 4 to 6"]
    assert spelled(mixed.rows[0]).startswith("<s>[")


def test_evaluated_tokens_are_labeled_counted_or_scored(preview_steps: PlanContext) -> None:
    evaluate = {
        "stage": "evaluate",
        "conversations": "talks.jsonl",
        "text": "texts.jsonl",
        "prompts": "prompts.jsonl",
        "max_new_tokens": 8,
    }
    shown = preview_steps(
        {"stage": "reward", "data": "pairs.jsonl"}, evaluate | {"pairs": "pairs.jsonl"}
    )
    assert shown.errors == ()
    sections = shown.steps[1].sections
    assert [(section.option, section.trained_label) for section in sections] == [
        ("conversations", "counted"),
        ("text", "counted"),
        ("pairs", "scored"),
        ("prompts", "trained"),
    ]
    assert sections[0].title == "3 rows to measure on"
    assert spelled(sections[0].rows[0]).startswith("<|user|>a cat<|end|><|assistant|>[")
    assert sections[3].rows[0].sequences[0].counts["trained"] == 0


def test_the_second_step_is_shown_with_the_template_of_the_first(
    preview_steps: PlanContext,
) -> None:
    shown = preview_steps({"stage": "chat", "template": "chatml"}, SFT)
    assert [step.step.name for step in shown.steps] == ["sft"], "chat reads no rows"
    row = shown.steps[0].sections[0].rows[0]
    assert spelled(row).startswith("<s><|im_start|>user\na cat<|im_end|>\n<|im_start|>assistant\n[")
    assert row.sequences[0].notes == ("ends with <|im_end|>, trained",)


@pytest.mark.parametrize("step", [SFT, DPO, {"stage": "pretrain", "data": "texts.jsonl"}])
def test_validation_rows_can_be_shown_and_may_be_empty(section: Only, step: dict[str, Any]) -> None:
    length = {"max_length": 16} if step["stage"] == "pretrain" else {}
    held = section({**step, **length, "hold_out": 0.4}, held_out=True)
    assert held.title.endswith("held out")
    assert held.rows
    assert section({**step, **length}, held_out=True).rows == ()


def test_a_stage_of_another_plugin_has_the_same_preview_as_ours(desk: Path) -> None:
    recipe = aligner.Recipe(
        [RDPO(RDPOOptions(data="pairs.jsonl", per_device_train_batch_size=2))],
        model=desk / "base",
        folder=desk,
        plugins=[aligner_brevity],
    )
    ((theirs,),) = recipe.preview(runs=desk / "runs").steps.values()
    ours = aligner.Recipe(
        [DPO_STAGE(DPOOptions(data="pairs.jsonl", per_device_train_batch_size=2))],
        model=desk / "base",
        folder=desk,
    )
    ((dpo,),) = ours.preview(runs=desk / "runs").steps.values()
    assert theirs.batches == dpo.batches
    for mine, other in zip(dpo.rows, theirs.rows, strict=True):
        assert other.prompt_length == mine.prompt_length
        for sequence in (0, 1):
            assert spelled(other, sequence) == spelled(mine, sequence)
            assert other.sequences[sequence].notes == mine.sequences[sequence].notes


def test_a_stage_without_a_preview_has_no_sections(desk: Path) -> None:
    recipe = aligner.Recipe([Nothing()])
    assert recipe.preview(runs=desk / "runs").steps == {}
    assert recipe.preview(steps=["nothing"], runs=desk / "runs").steps == {"nothing": ()}


def test_rows_that_a_step_will_generate_are_marked_as_placeholders(
    preview_steps: PlanContext,
) -> None:
    annotate = {
        "stage": "annotate",
        "prompts": "prompts.jsonl",
        "score": "toy_tasks",
        "max_new_tokens": 8,
    }
    shown = preview_steps(annotate, {"stage": "dpo", "data": {"step": "annotate"}}, rows=(1,))
    assert shown.errors == ()
    asked, made = (step.sections[0] for step in shown.steps)
    note = "the rows of 'annotate' do not exist yet: the prompts are real, the answers are placeholders"
    assert note not in asked.notes
    assert made.notes[0] == note
    prompt = spelled(asked.rows[0]).split("}")[-1]
    both = made.rows[0]
    assert "".join(token.text for token in both.sequences[0].tokens[: both.prompt_length]) == prompt
