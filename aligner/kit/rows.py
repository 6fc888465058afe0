"""Rows for plugins: their types, texts and keys.

Light: nothing here imports torch or transformers.
"""

from aligner.data.describe import printable_name  # show names of user data in messages
from aligner.data.language import language_of  # identify the language of texts
from aligner.data.options import ComparingOptions  # base of options with data sets to compare with
from aligner.data.reading.messages import (  # names of roles in public data, errors of rows
    ROLES,
    MalformedRowError,
)
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
from aligner.registry import Message  # one turn of a conversation

__all__ = [
    "ROLES",
    "ClassifiedText",
    "ComparingOptions",
    "Conversation",
    "LabeledCompletion",
    "MalformedRowError",
    "Message",
    "Messages",
    "Preference",
    "Prompt",
    "Ranking",
    "Row",
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
