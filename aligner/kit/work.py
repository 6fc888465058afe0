"""Names for the torch half of a plugin: rows, models, losses, trainers."""

from aligner.data.context import DataContext
from aligner.data.encoding.chat import ChatEncoder, stop_tokens
from aligner.data.encoding.planned_policy import planned_policy
from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.prepare_rows import prepare_rows
from aligner.data.encoding.tokenizers import (
    load_tokenizer,
    planned_tokenizer,
    save_tokenizer,
    tokenizer_hash,
)
from aligner.data.reading.load import load_rows
from aligner.data.reading.step_datasets import forecast_rows, save_rows
from aligner.data.store.lazy_rows import MappedRows
from aligner.data.store.token_rows import PreferenceTokens, PromptTokens, SequenceTokens
from aligner.data.templates.rendering import control_tokens
from aligner.models.fresh import fresh_model
from aligner.models.generate import Answer, Sampling, generate
from aligner.models.language_model import LanguageModel
from aligner.models.load import load_model
from aligner.models.logps import ScoredRow, row_logps
from aligner.models.model_info import (
    ModelInfo,
    PlannedTraining,
    fresh_info,
    planned_model,
    reward_info,
    with_vocabulary,
)
from aligner.models.options import adapter_plan
from aligner.models.padding import map_longest_first, pad_id, pad_with_lengths
from aligner.models.policy import PreparedModel, prepare_policy
from aligner.models.precision import option_errors, precision_of
from aligner.models.reward import load_reward_to_train, reward_head
from aligner.models.save import save_model
from aligner.models.side_adapter import SideAdapter
from aligner.models.tensor_artifact import load_tensors, read_about, save_tensors
from aligner.models.tokens import add_token_rows, set_token_ids
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
from aligner.run.durable import write_lines
from aligner.run.processes import write_after_shares
from aligner.train.batch_reader import BatchReader, shared_prompt_length
from aligner.train.completions import CompletionMethod
from aligner.train.fresh_tokenizer import fresh_tokenizer
from aligner.train.language import LanguageMethod
from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.logps_method import LogpsMethod
from aligner.train.method import TrainerInputs, TrainingMethod
from aligner.train.pairs import PairLogps, PreferenceMethod
from aligner.train.preview import RowSequences, preview_section, prompt_layout
from aligner.train.scoring import load_sources, reward_errors
from aligner.train.trainer import StepTrainer

__all__ = [
    "AdvantageTargets",
    "Algorithm",
    "Answer",
    "BatchReader",
    "ChatEncoder",
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
    "PreferenceMethod",
    "PreferenceTokens",
    "PreparedData",
    "PreparedModel",
    "PromptTokens",
    "ResponseBatch",
    "RowSequences",
    "Sampling",
    "ScoredRow",
    "SequenceTokens",
    "SideAdapter",
    "StepSize",
    "StepTrainer",
    "TokenLogps",
    "TrainerInputs",
    "TrainingMethod",
    "ValueFactory",
    "ValueFunction",
    "adapter_plan",
    "add_token_rows",
    "control_tokens",
    "forecast_rows",
    "fresh_info",
    "fresh_model",
    "fresh_tokenizer",
    "generate",
    "kl_estimate",
    "load_model",
    "load_reward_to_train",
    "load_rows",
    "load_sources",
    "load_tensors",
    "load_tokenizer",
    "load_value_model",
    "map_longest_first",
    "option_errors",
    "pad_id",
    "pad_with_lengths",
    "planned_model",
    "planned_policy",
    "planned_tokenizer",
    "precision_of",
    "prepare_policy",
    "prepare_rows",
    "preview_section",
    "prompt_layout",
    "read_about",
    "reward_errors",
    "reward_head",
    "reward_info",
    "row_logps",
    "save_model",
    "save_rows",
    "save_tensors",
    "save_tokenizer",
    "set_token_ids",
    "shared_prompt_length",
    "stop_tokens",
    "tokenizer_hash",
    "whiten",
    "with_vocabulary",
    "write_after_shares",
    "write_lines",
]
