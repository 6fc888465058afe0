"""Options that name sources of reward: the reward model, or reward functions of plugins."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from aligner.stage import StageOptions

MODEL = "model"
"""The name that means the reward slot, and no function."""


class RewardSpec(StageOptions):
    """One source of reward. A bare string is its `name`."""

    name: str = MODEL
    """`model` for the reward model in the reward slot, or a reward function that a plugin offers."""
    weight: float = 1.0
    """What the source's number is multiplied by before the sources are added up."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reward function."""

    @model_validator(mode="before")
    @classmethod
    def _a_string_is_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _the_model_has_no_options(self) -> RewardSpec:
        if self.name == MODEL and self.options:
            raise ValueError("the reward model takes no options")
        return self


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


RewardSpecs = Annotated[tuple[RewardSpec, ...], BeforeValidator(_as_list)]
"""One source of reward or several, whose weighted numbers are added up."""
