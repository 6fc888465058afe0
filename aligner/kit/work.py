"""Names for the torch half of a plugin: rows, models, losses, trainers."""

from aligner.data.context import DataContext
from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.data.store.lazy_rows import MappedRows
from aligner.models.fresh import fresh_model
from aligner.models.language_model import LanguageModel
from aligner.models.model_info import (
    ModelInfo,
    PlannedTraining,
    fresh_info,
    planned_model,
    reward_info,
)
from aligner.models.options import adapter_plan
from aligner.models.padding import pad_id
from aligner.models.policy import PreparedModel, prepare_policy
from aligner.models.precision import precision_of
from aligner.models.reward import load_reward_to_train, reward_head
from aligner.models.save import save_model
from aligner.models.side_adapter import SideAdapter
from aligner.models.tensor_artifact import load_tensors, read_about, save_tensors
from aligner.models.tokens import set_token_ids
from aligner.rl.algorithm import (
    Algorithm,
    LossBatch,
    LossOutput,
    PlanAddition,
    StepSize,
    ValueFactory,
)
from aligner.rl.experience import AdvantageTargets, Experience
from aligner.rl.forward import ResponseBatch
from aligner.rl.kl import kl_estimate
from aligner.rl.normalization import whiten
from aligner.rl.value import ValueFunction, load_value_model
from aligner.train.batch_reader import BatchReader, completion_note, shared_prompt_length
from aligner.train.completions import CompletionCollator, CompletionMethod
from aligner.train.fresh_tokenizer import fresh_tokenizer
from aligner.train.language import LanguageMethod
from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.logps_method import LogpsMethod
from aligner.train.method import TrainerInputs, TrainingMethod
from aligner.train.pairs import PairLogps, PreferenceLoss, PreferenceMethod
from aligner.train.preview import RowSequences, preview_section, prompt_layout
from aligner.train.trainer import StepTrainer

__all__ = [
    "AdvantageTargets",
    "Algorithm",
    "BatchReader",
    "CompletionCollator",
    "CompletionLogps",
    "CompletionMethod",
    "DataContext",
    "Experience",
    "LanguageMethod",
    "LanguageModel",
    "LogpsMethod",
    "LossBatch",
    "LossOutput",
    "MappedRows",
    "ModelInfo",
    "PairLogps",
    "PlanAddition",
    "PlannedTraining",
    "PreferenceLoss",
    "PreferenceMethod",
    "PreparedData",
    "PreparedModel",
    "ResponseBatch",
    "RowSequences",
    "SideAdapter",
    "StepSize",
    "StepTrainer",
    "TokenLogps",
    "TrainerInputs",
    "TrainingMethod",
    "ValueFactory",
    "ValueFunction",
    "adapter_plan",
    "completion_note",
    "fresh_info",
    "fresh_model",
    "fresh_tokenizer",
    "kl_estimate",
    "load_reward_to_train",
    "load_tensors",
    "load_tokenizer",
    "load_value_model",
    "pad_id",
    "planned_model",
    "precision_of",
    "prepare_policy",
    "preview_section",
    "prompt_layout",
    "read_about",
    "reward_head",
    "reward_info",
    "save_model",
    "save_tensors",
    "save_tokenizer",
    "set_token_ids",
    "shared_prompt_length",
    "whiten",
]
