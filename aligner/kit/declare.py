"""Names for the light half of a plugin: options and declarations. Importing it loads no torch."""

from aligner.data.options import DataOptions, DataSpecs, TrainOn
from aligner.errors import (
    ChainError,
    DataError,
    ErrorCollector,
    ErrorGroup,
    ModelError,
    did_you_mean,
    error_location,
)
from aligner.models.options import FreshModel, ModelOptions
from aligner.options.fields import fields_at
from aligner.preview import PreviewRequest, PreviewSection
from aligner.recipe.tree import show
from aligner.registry import RowKind
from aligner.rl.options import RLOptions
from aligner.rl.stage import OnlineStage
from aligner.train.options import OfflineOptions, PreferenceOptions, TrainOptions
from aligner.train.stage import OfflineStage, PreferenceStage

__all__ = [
    "ChainError",
    "DataError",
    "DataOptions",
    "DataSpecs",
    "ErrorCollector",
    "ErrorGroup",
    "FreshModel",
    "ModelError",
    "ModelOptions",
    "OfflineOptions",
    "OfflineStage",
    "OnlineStage",
    "PreferenceOptions",
    "PreferenceStage",
    "PreviewRequest",
    "PreviewSection",
    "RLOptions",
    "RowKind",
    "TrainOn",
    "TrainOptions",
    "did_you_mean",
    "error_location",
    "fields_at",
    "show",
]
