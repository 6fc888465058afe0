"""Names for the light half of a plugin: options and declarations. Importing it loads no torch."""

from aligner.data.options import DataOptions, DataSpecs, TrainOn
from aligner.errors import (
    ChainError,
    DataError,
    ErrorCollector,
    ErrorGroup,
    ModelError,
    error_location,
)
from aligner.models.options import Adapter, FreshModel, ModelOptions
from aligner.preview import PreviewRequest, PreviewSection
from aligner.registry import RowKind
from aligner.train.options import OfflineOptions, PreferenceOptions, TrainOptions
from aligner.train.stage import OfflineStage, PreferenceStage

__all__ = [
    "Adapter",
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
    "PreferenceOptions",
    "PreferenceStage",
    "PreviewRequest",
    "PreviewSection",
    "RowKind",
    "TrainOn",
    "TrainOptions",
    "error_location",
]
