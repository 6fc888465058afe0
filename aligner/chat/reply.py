"""One answer while it is generated: its text so far, and the reason it ended."""

from __future__ import annotations

from collections.abc import Iterator

from aligner.chat.decoding import StreamDecoder
from aligner.chat.model import ChatModel, ChatPrompt
from aligner.chat.settings import ChatSettings


class Reply(Iterator[str]):
    """An iterator over the parts of an answer."""

    def __init__(
        self, model: ChatModel, prompt: ChatPrompt, options: ChatSettings, *, seed: int
    ) -> None:
        self.name = model.name
        self.ended = False
        """True if the model generated a stop token."""
        self.stopped = False
        """True if the user stopped the answer."""
        self.shown = ""
        """The text returned so far."""
        self.tokens = 0
        self._decoder = StreamDecoder(model.tokenizer)
        sampling = options.sampling(model, max_new_tokens=prompt.max_new_tokens)
        self._stream = model.answer(prompt.input_ids, sampling=sampling, seed=seed)
        self._complete = False

    def __next__(self) -> str:
        if self._complete or self.stopped:
            raise StopIteration
        text = self._next_text()
        self.shown += text
        return text

    def _next_text(self) -> str:
        for token in self._stream:
            self.tokens += 1
            if not token.ends:
                return self._decoder.feed(token.token)
            self.ended = True
            break
        self._complete = True
        return self._decoder.end()

    def stop(self) -> None:
        """Generate no further tokens."""
        if not self._complete:
            self.stopped = True
            self.shown += self._decoder.end()

    @property
    def text(self) -> str:
        """The whole answer, exactly as the model generated it."""
        return self._decoder.text

    @property
    def note(self) -> str:
        """The reason why the answer is incomplete, or an empty string."""
        if self.stopped:
            return "stopped"
        if not self.ended:
            return f"truncated at {self.tokens} tokens; /set max_new_tokens allows more"
        return ""
