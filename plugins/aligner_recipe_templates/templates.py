"""Recipe templates of each method: its steps and the data that it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from aligner import RecipeTemplate, TemplateInputs
from aligner_recipe_templates.steps import STEPS, StepTemplate, evaluation, head


def _render(steps: Sequence[StepTemplate], about: str, inputs: TemplateInputs) -> str:
    """Render the steps for which data is given."""
    used = [step for step in steps if step.data is None or step.data in inputs.data]
    parts = [head(about, inputs)]
    trained = False
    for step in used:
        parts.append(step.text(inputs, after_adapter=trained))
        trained = trained or step.adds_adapter(inputs)
    return "".join(parts) + evaluation(used)


def _renderer(*names: str, about: str) -> Callable[[TemplateInputs], str]:
    return partial(_render, [STEPS[name] for name in names], about)


TEMPLATES: tuple[RecipeTemplate, ...] = (
    RecipeTemplate(
        name="sft",
        about="Fine-tune on conversations.",
        required_data={"data": "conversation"},
        render=_renderer("chat", "sft", about="Fine-tune on conversations."),
    ),
    RecipeTemplate(
        name="dpo",
        about="Train on preference pairs with DPO, after fine-tuning on conversations if given.",
        required_data={"preferences": "preference"},
        optional_data={"data": "conversation"},
        render=_renderer("chat", "sft", "dpo", about="Train on preference pairs with DPO."),
    ),
    RecipeTemplate(
        name="rlhf",
        about="Train a reward model on preference pairs and maximize its reward with PPO.",
        required_data={"preferences": "preference"},
        optional_data={"data": "conversation"},
        render=_renderer(
            "chat",
            "sft",
            "reward",
            "ppo",
            about="Train a reward model and maximize its reward with PPO.",
        ),
    ),
    RecipeTemplate(
        name="reward",
        about="Train a reward model on preference pairs.",
        required_data={"preferences": "preference"},
        render=_renderer("chat", "reward", about="Train a reward model on preference pairs."),
    ),
    RecipeTemplate(
        name="pretrain",
        about="Continue pre-training on plain text.",
        required_data={"data": "text"},
        adapter="none",
        render=_renderer("pretrain", about="Continue pre-training on plain text."),
    ),
)
