"""Rows for plugins: their types, their texts and keys, and the parts of row operations.

Light: nothing here imports torch or transformers.
"""

from aligner.data.describe import printable_name  # show names of user data in messages
from aligner.data.language import language_of  # identify the language of texts
from aligner.data.options import ComparingOptions  # base of options with data sets to compare with
from aligner.data.reading.messages import ROLES  # names of roles in public data
from aligner.data.row_keys import content_key, prompt_key  # equal for equal rows and equal prompts
from aligner.data.row_texts import (  # the texts of a row, whatever its type
    answers_of,
    full_text,
    map_texts,
    prompt_text,
    texts_of,
    turns_of,
)
from aligner.data.rows import (  # the types of rows
    ClassifiedText,
    Conversation,
    LabeledCompletion,
    Messages,
    Preference,
    Prompt,
    Ranking,
    Row,
    ScoredCompletion,
    Text,
    Tools,
)
from aligner.errors import DataError, ErrorGroup  # errors of users' data, one or several at once
from aligner.registry import Message, OperationContext, RowOperation  # what an operation is made of

__all__ = [
    "ROLES",
    "ClassifiedText",
    "ComparingOptions",
    "Conversation",
    "DataError",
    "ErrorGroup",
    "LabeledCompletion",
    "Message",
    "Messages",
    "OperationContext",
    "Preference",
    "Prompt",
    "Ranking",
    "Row",
    "RowOperation",
    "ScoredCompletion",
    "Text",
    "Tools",
    "answers_of",
    "content_key",
    "full_text",
    "language_of",
    "map_texts",
    "printable_name",
    "prompt_key",
    "prompt_text",
    "texts_of",
    "turns_of",
]
