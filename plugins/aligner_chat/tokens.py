"""Give a tokenizer its template and special tokens, without changing the one that was given."""

from __future__ import annotations

import copy
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from aligner.data.encoding.chat import ChatEncoder
from aligner.data.templates.rendering import control_tokens
from aligner.errors import ChainError, ModelError
from aligner_chat.catalogue import OWN, ChatTemplate, find
from aligner_chat.stage import ChatOptions

PAD = "<pad>"
QUESTION = ({"role": "user", "content": "question"},)


def with_template(
    tokenizer: PreTrainedTokenizerBase, options: ChatOptions, *, folder: Path, where: str
) -> PreTrainedTokenizerBase:
    """A copy of `tokenizer` that writes conversations as `config` says.

    Args:
        tokenizer: Left as it is.
        config: The options of the step.
        folder: Where relative paths start.
        where: `file:line` for complaints.

    Raises:
        ChainError: there is no such template.
        ModelError: it fails, or its answers do not end with a token that generation can stop at.
    """
    made = copy.deepcopy(tokenizer)
    template = _template(tokenizer, options, folder, where)
    _add(made, [*template.special, *options.special_tokens])
    end = options.end_of_turn or template.end
    if end is not None:
        _add(made, [end])
        made.eos_token = end
    _pad(made)
    made.chat_template = template.source
    if options.system is not None:
        made.chat_template = _with_system(made, options.system, template.source, where)
    chat = ChatEncoder(made, where=where)
    if options.bos and _lacks_bos(chat):
        made.chat_template = "{{- bos_token }}" + made.chat_template
        chat = ChatEncoder(made, where=where)
    _must_stop(chat, where)
    return made


def _template(
    tokenizer: PreTrainedTokenizerBase, options: ChatOptions, folder: Path, where: str
) -> ChatTemplate:
    if options.template != OWN:
        return find(options.template, folder, where)
    if not isinstance(tokenizer.chat_template, str):
        hint = "name one, such as `template: chatml`"
        raise ChainError("the tokenizer has no chat template of its own", where=where, hint=hint)
    return ChatTemplate(OWN, tokenizer.chat_template)


def _add(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> None:
    there = control_tokens(tokenizer)
    new = [token for token in dict.fromkeys(tokens) if token not in there]
    if new:
        tokenizer.add_tokens(
            [AddedToken(token, special=True, normalized=False) for token in new],
            special_tokens=True,
        )


def _pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Padding must be no other token, or that other token is masked wherever it stands."""
    others = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    if tokenizer.pad_token is None or tokenizer.pad_token in others:
        _add(tokenizer, [PAD])
        tokenizer.pad_token = PAD


def _with_system(tokenizer: PreTrainedTokenizerBase, system: str, source: str, where: str) -> str:
    spelled = [token for token in control_tokens(tokenizer) if token in system]
    if spelled:
        what = f"the system turn spells the special token {spelled[0]!r}"
        raise ChainError(what, where=where, hint="say it in other words")
    # Jinja reads string literals as Python does, so that escapes make any text safe in one.
    literal = system.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    turn = f"[{{'role': 'system', 'content': '{literal}'}}]"
    lacking = "messages | length == 0 or messages[0]['role'] != 'system'"
    return f"{{%- if {lacking} %}}{{%- set messages = {turn} + messages %}}{{%- endif %}}{source}"


def _lacks_bos(chat: ChatEncoder) -> bool:
    """Whether texts begin with the beginning-of-sequence token, and conversations do not."""
    bos = chat.tokenizer.bos_token_id
    begin, _ = chat.encoder.frame()
    if bos is None or bos not in begin:
        return False
    return chat.encode([chat.prompt(QUESTION)])[0].input_ids[:1] != [bos]


def _must_stop(chat: ChatEncoder, where: str) -> None:
    if chat.ends_answers:
        return
    what = "the chat template does not end answers with a special token, so they would never stop"
    hint = "put one at the end of the generation block, and name it with `end_of_turn`"
    raise ModelError(what, where=where, hint=hint)
