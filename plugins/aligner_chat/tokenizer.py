"""Create a tokenizer with another chat template and further special tokens."""

from __future__ import annotations

import copy
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from aligner.kit.declare import ChainError, ModelError
from aligner.kit.work import ChatEncoder, control_tokens
from aligner_chat.named_templates import OWN, ChatTemplate, find_template
from aligner_chat.options import ChatOptions

PAD = "<pad>"
QUESTION = ({"role": "user", "content": "question"},)


def with_template(
    tokenizer: PreTrainedTokenizerBase, options: ChatOptions, *, folder: Path
) -> PreTrainedTokenizerBase:
    """Return a copy of `tokenizer` that formats conversations as the options say.

    Args:
        tokenizer: Tokenizer to copy.
        options: Options of the step.
        folder: Folder that relative paths start from.

    Raises:
        ChainError: there is no such template.
        ModelError: the template fails, or does not end answers with a special token.
    """
    result = copy.deepcopy(tokenizer)
    template = _template(tokenizer, options, folder)
    _add_special(result, [*template.special, *options.special_tokens])
    end = options.end_of_turn or template.end
    if end is not None:
        _add_special(result, [end])
        result.eos_token = end
    _set_pad_token(result)
    result.chat_template = template.source
    if options.system is not None:
        result.chat_template = _with_system(result, options.system, template.source)
    chat = ChatEncoder(result)
    if options.bos and _lacks_bos(chat):
        result.chat_template = "{{- bos_token }}" + result.chat_template
        chat = ChatEncoder(result)
    _check_stop_token(chat)
    return result


def _template(
    tokenizer: PreTrainedTokenizerBase, options: ChatOptions, folder: Path
) -> ChatTemplate:
    if options.template != OWN:
        return find_template(options.template, folder)
    if not isinstance(tokenizer.chat_template, str):
        raise ChainError(
            "the tokenizer has no chat template of its own",
            hint="name one, such as `template: chatml`",
        )
    return ChatTemplate(OWN, tokenizer.chat_template)


def _add_special(tokenizer: PreTrainedTokenizerBase, tokens: list[str]) -> None:
    known = control_tokens(tokenizer)
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    if new:
        tokenizer.add_tokens(
            [AddedToken(token, special=True, normalized=False) for token in new],
            special_tokens=True,
        )


def _set_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Set a pad token of its own: another token would be masked wherever it occurs."""
    others = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    if tokenizer.pad_token is None or tokenizer.pad_token in others:
        _add_special(tokenizer, [PAD])
        tokenizer.pad_token = PAD


def _with_system(tokenizer: PreTrainedTokenizerBase, system: str, source: str) -> str:
    contained = [token for token in control_tokens(tokenizer) if token in system]
    if contained:
        raise ChainError(
            f"the system turn contains the special token {contained[0]!r}",
            hint="remove it from `system`",
        )
    # Jinja reads string literals as Python does, so that escapes make any text safe in one.
    literal = system.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    turn = f"[{{'role': 'system', 'content': '{literal}'}}]"
    lacking = "messages | length == 0 or messages[0]['role'] != 'system'"
    return f"{{%- if {lacking} %}}{{%- set messages = {turn} + messages %}}{{%- endif %}}{source}"


def _lacks_bos(chat: ChatEncoder) -> bool:
    """Return True if texts begin with the beginning-of-sequence token and conversations do not."""
    bos = chat.tokenizer.bos_token_id
    begin, _ = chat.encoder.frame()
    if bos is None or bos not in begin:
        return False
    return chat.encode([chat.prompt(QUESTION)])[0].input_ids[:1] != [bos]


def _check_stop_token(chat: ChatEncoder) -> None:
    if not chat.ends_answers:
        raise ModelError(
            "the chat template does not end answers with a special token, so they would never stop",
            hint="put one at the end of the generation block, and name it with `end_of_turn`",
        )
