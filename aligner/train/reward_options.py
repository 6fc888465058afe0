"""Options that name sources of reward: the reward model, or reward functions of plugins."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from aligner.stage import StageOptions

MODEL = "model"
"""Name of the reward slot among the sources of reward."""


class RewardFunctionSpec(StageOptions):
    """Reward function with its options. A bare string is its `name`."""

    name: str
    """Reward function that an installed plugin offers."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reward function."""

    @model_validator(mode="before")
    @classmethod
    def _string_to_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(core))]}


class RewardSpec(RewardFunctionSpec):
    """Source of reward. A bare string is its `name`."""

    name: str = MODEL
    """`model` for the reward model in the reward slot, or a reward function that a plugin offers."""
    weight: float = 1.0
    """Factor of the source's scores in the sum over sources."""

    @property
    def is_model(self) -> bool:
        """True for the reward model in the reward slot."""
        return self.name == MODEL

    @model_validator(mode="after")
    def _check_model_options(self) -> RewardSpec:
        if self.is_model and self.options:
            raise ValueError("the reward model takes no options")
        return self


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


RewardSpecs = Annotated[tuple[RewardSpec, ...], BeforeValidator(_as_list)]
"""One source of reward or several, whose weighted scores are added up."""
