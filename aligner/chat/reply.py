"""One answer on its way: text to show as it comes, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator

from aligner.chat.decoding import Decoder
from aligner.chat.settings import Settings
from aligner.chat.speaker import Fitting, Speaker


class Reply(Iterator[str]):
    """Gives the answer piece by piece; afterwards it knows the whole text."""

    def __init__(
        self, speaker: Speaker, fitting: Fitting, settings: Settings, *, seed: int
    ) -> None:
        self.name = speaker.name
        self.ended = self.stopped = False
        """Whether it ended with a stop token; whether the user stopped it."""
        self.shown = ""
        """What has been given so far."""
        self.tokens = 0
        self._decoder = Decoder(speaker.tokenizer)
        sampling = settings.sampling(speaker, room=fitting.room)
        self._written = speaker.answer(fitting.ids, sampling=sampling, seed=seed)
        self._over = False

    def __next__(self) -> str:
        if self._over or self.stopped:
            raise StopIteration
        piece = self._piece()
        self.shown += piece
        return piece

    def _piece(self) -> str:
        for written in self._written:
            self.tokens += 1
            if not written.ends:
                return self._decoder.feed(written.token)
            self.ended = True
            break
        self._over = True
        return self._decoder.end()

    def stop(self) -> None:
        """Write no further."""
        if not self._over:
            self.stopped = True
            self.shown += self._decoder.end()

    @property
    def text(self) -> str:
        """All that the model said, as it said it."""
        return self._decoder.text

    @property
    def note(self) -> str:
        """What is to be known about how it ended, or nothing."""
        if self.stopped:
            return "stopped"
        if not self.ended:
            return f"cut at {self.tokens} tokens; /set max_new_tokens allows more"
        return ""
