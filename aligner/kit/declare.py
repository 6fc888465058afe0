"""Names for the light half of a plugin: options and declarations. Importing it loads no torch."""

from aligner.data.options import DataSpecs, Limits, TrainOn, refuse_training_options
from aligner.errors import (
    ChainError,
    DataError,
    ErrorCollector,
    ErrorGroup,
    ModelError,
    did_you_mean,
    error_location,
)
from aligner.models.options import FreshModel, LoadOptions, SamplingOptions
from aligner.options.fields import fields_at
from aligner.options.validation import check_options
from aligner.preview import PreviewRequest, PreviewSection
from aligner.recipe.tree import show
from aligner.registry import RowKind
from aligner.rl.options import RLOptions
from aligner.rl.stage import OnlineStage
from aligner.train.options import OfflineOptions, PreferenceOptions
from aligner.train.reward_options import RewardFunctionSpec, RewardSpec, RewardSpecs
from aligner.train.stage import OfflineStage, PreferenceStage

__all__ = [
    "ChainError",
    "DataError",
    "DataSpecs",
    "ErrorCollector",
    "ErrorGroup",
    "FreshModel",
    "Limits",
    "LoadOptions",
    "ModelError",
    "OfflineOptions",
    "OfflineStage",
    "OnlineStage",
    "PreferenceOptions",
    "PreferenceStage",
    "PreviewRequest",
    "PreviewSection",
    "RLOptions",
    "RewardFunctionSpec",
    "RewardSpec",
    "RewardSpecs",
    "RowKind",
    "SamplingOptions",
    "TrainOn",
    "check_options",
    "did_you_mean",
    "error_location",
    "fields_at",
    "refuse_training_options",
    "show",
]
