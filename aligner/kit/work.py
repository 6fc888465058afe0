"""Names for the torch half of a plugin: rows, models, losses, trainers."""

from aligner.data.context import DataContext
from aligner.data.encoding.prepare import PreparedData
from aligner.data.encoding.tokenizers import load_tokenizer, save_tokenizer
from aligner.data.store.lazy_rows import MappedRows
from aligner.models.fresh import fresh_model
from aligner.models.inspect import ModelInfo, fresh_info, reward_info
from aligner.models.padding import pad_id
from aligner.models.policy import Prepared as PreparedModel
from aligner.models.policy import prepare_policy
from aligner.models.precision import precision_of
from aligner.models.reward import load_reward_to_train
from aligner.models.tokens import set_token_ids
from aligner.train.completions import CompletionCollator, CompletionMethod
from aligner.train.fresh_tokenizer import fresh_tokenizer
from aligner.train.language import LanguageMethod
from aligner.train.logps import CompletionLogps, TokenLogps
from aligner.train.logps_method import LogpsMethod
from aligner.train.method import TrainerInputs, TrainingMethod
from aligner.train.pairs import PairLogps, PreferenceLoss, PreferenceMethod
from aligner.train.preview import Reader
from aligner.train.trainer import StepTrainer

__all__ = [
    "CompletionCollator",
    "CompletionLogps",
    "CompletionMethod",
    "DataContext",
    "LanguageMethod",
    "LogpsMethod",
    "MappedRows",
    "ModelInfo",
    "PairLogps",
    "PreferenceLoss",
    "PreferenceMethod",
    "PreparedData",
    "PreparedModel",
    "Reader",
    "StepTrainer",
    "TokenLogps",
    "TrainerInputs",
    "TrainingMethod",
    "fresh_info",
    "fresh_model",
    "fresh_tokenizer",
    "load_reward_to_train",
    "load_tokenizer",
    "pad_id",
    "precision_of",
    "prepare_policy",
    "reward_info",
    "save_tokenizer",
    "set_token_ids",
]
