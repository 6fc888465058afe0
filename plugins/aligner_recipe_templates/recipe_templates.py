"""The methods there are outlines for: the steps of each, and the data they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aligner.registry import RecipeTemplate, TemplateInputs
from aligner_recipe_templates.steps import STEPS, StepTemplate, evaluated, head


def _write(steps: Sequence[StepTemplate], about: str, material: TemplateInputs) -> str:
    """The steps whose data is there, in their order."""
    used = [step for step in steps if step.data is None or step.data in material.data]
    parts = [head(about, material)]
    trained = False
    for step in used:
        parts.append(step.text(material, after_adapter=trained))
        trained = trained or step.leaves_adapter(material)
    return "".join(parts) + evaluated(used)


def _writer(*names: str, about: str) -> Callable[[TemplateInputs], str]:
    return partial(_write, [STEPS[name] for name in names], about)


OUTLINES: tuple[RecipeTemplate, ...] = (
    RecipeTemplate(
        name="sft",
        about="Learn to answer from conversations.",
        required_data={"data": "conversation"},
        write=_writer("chat", "sft", about="Learn to answer from conversations."),
    ),
    RecipeTemplate(
        name="dpo",
        about="Learn from pairs of a better and a worse answer, after conversations where given.",
        required_data={"preferences": "preference"},
        optional_data={"data": "conversation"},
        write=_writer(
            "chat", "sft", "dpo", about="Learn from pairs of a better and a worse answer."
        ),
    ),
    RecipeTemplate(
        name="rlhf",
        about="Learn a reward from pairs, and seek it with PPO, after conversations where given.",
        required_data={"preferences": "preference"},
        optional_data={"data": "conversation"},
        write=_writer(
            "chat", "sft", "reward", "ppo", about="Learn a reward from pairs, and seek it with PPO."
        ),
    ),
    RecipeTemplate(
        name="reward",
        about="Learn to score answers from pairs of a better and a worse one.",
        required_data={"preferences": "preference"},
        write=_writer(
            "chat", "reward", about="Learn to score answers from pairs of a better and a worse one."
        ),
    ),
    RecipeTemplate(
        name="pretrain",
        about="Go on modelling plain text.",
        required_data={"data": "text"},
        adapter="none",
        write=_writer("pretrain", about="Go on modelling plain text."),
    ),
)
