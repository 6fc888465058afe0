"""Options of the chat stage."""

from __future__ import annotations

from aligner import StageOptions


class ChatOptions(StageOptions):
    """Options of the chat stage."""

    template: str
    """Chat template: a name (chatml, llama-3, qwen, tiny, …), a Jinja file, or `own` for the one that the
    tokenizer has."""
    system: str | None = None
    """System turn of conversations that have none."""
    bos: bool = True
    """Begin conversations with the beginning-of-sequence token if the tokenizer begins plain texts with
    it, even if the template does not."""
    end_of_turn: str | None = None
    """Token that ends an answer; it becomes the tokenizer's end-of-sequence token. A named template has its
    own; with a file or `own`, null leaves the tokenizer's unchanged."""
    special_tokens: tuple[str, ...] = ()
    """Further texts that become special tokens, which are never recognized in the text of users."""
