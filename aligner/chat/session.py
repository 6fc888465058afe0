"""Hold a conversation: take what is typed, a turn or a command, and let each speaker answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aligner.chat.dialogue import Dialogue
from aligner.chat.reply import Reply
from aligner.chat.settings import Refused, Settings
from aligner.chat.speaker import Fitting, Speaker
from aligner.chat.views import View
from aligner.data.reading.messages import MalformedRowError, read_text
from aligner.errors import did_you_mean
from aligner.terminal.as_json import json_line
from aligner.terminal.text import one_line

HELP = """\
/retry          answer the last question again
/undo           take the last question and its answer back
/save FILE      append the conversation to FILE, as a JSON line of messages to train on
/system TEXT    speak under this system turn; without TEXT, under none
/set NAME VALUE change temperature, top_p, top_k, max_new_tokens or seed; alone, show them
/help           this
/quit           leave, as Ctrl-D does
A line that ends with \\ goes on in the next one; a turn that begins with / is typed with two."""


class Session:
    """A conversation with one speaker, or the same questions to several."""

    def __init__(
        self, speakers: Sequence[Speaker], settings: Settings, view: View, *, system: str = ""
    ) -> None:
        self.speakers, self.settings, self.view = tuple(speakers), settings, view
        self.dialogues = tuple(Dialogue(system) for _ in speakers)
        """What was said, one a speaker: each goes on from its own answers."""
        self.over = False
        self._answers = 0

    def take(self, typed: str) -> None:
        """Do what a line says.

        Raises:
            AlignerError: It cannot be done; the conversation is as it was.
        """
        typed = typed.strip()
        if not typed:
            return
        if not typed.startswith("/"):
            self._ask(typed, [dialogue.asked(typed) for dialogue in self.dialogues])
        elif typed.startswith("//"):
            self._ask(typed, [dialogue.asked(typed[1:]) for dialogue in self.dialogues])
        else:
            name, _, rest = typed.partition(" ")
            commands = self._commands()
            if name not in commands:
                raise Refused(f"there is no {one_line(name)}", hint=did_you_mean(name, commands))
            commands[name](rest.strip())

    def _commands(self) -> Mapping[str, Callable[[str], None]]:
        return {
            "/retry": self._retry,
            "/undo": self._undo,
            "/save": self._save,
            "/system": self._system,
            "/set": self._set,
            "/help": lambda _: self.view.note(HELP),
            "/quit": self._quit,
        }

    def _ask(self, said: str, dialogues: Sequence[Dialogue]) -> None:
        """Let everybody answer, and remember it unless somebody was stopped before the first word."""
        try:
            read_text(said, "turn")
            fittings = [self._fit(*pair) for pair in zip(self.speakers, dialogues, strict=True)]
        except MalformedRowError as error:
            raise Refused(error.what, hint=error.hint) from None
        # Another answer to the same question must not be the same answer.
        seed = self.settings.seed + self._answers
        self._answers += 1
        replies = [
            Reply(speaker, fitting, self.settings, seed=seed)
            for speaker, fitting in zip(self.speakers, fittings, strict=True)
        ]
        self.view.show(replies)
        if any(reply.stopped and not reply.text for reply in replies):
            self.view.note("(nothing was said, so the question is taken back)")
            return
        self.dialogues = tuple(
            dialogue.answered(reply.text)
            for dialogue, reply in zip(dialogues, replies, strict=True)
        )

    def _fit(self, speaker: Speaker, dialogue: Dialogue) -> Fitting:
        most = self.settings.most(speaker)
        fitting = speaker.fit(dialogue.messages, max_new_tokens=most)
        if fitting.left_out:
            self.view.note(
                f"({speaker.name} no longer sees the first {fitting.left_out} turns: "
                f"it takes {speaker.context} tokens)"
            )
        return fitting

    def _retry(self, _: str) -> None:
        question = self._last_question()
        again = [dialogue.taken_back().asked(question) for dialogue in self.dialogues]
        self._ask(question, again)

    def _undo(self, _: str) -> None:
        question = self._last_question()
        self.dialogues = tuple(dialogue.taken_back() for dialogue in self.dialogues)
        self.view.note(f"(taken back: {one_line(question)})")

    def _last_question(self) -> str:
        question = self.dialogues[0].last_question
        if question is None:
            raise Refused("nothing has been said yet")
        return question

    def _save(self, name: str) -> None:
        if not name:
            raise Refused("/save needs the name of a file", hint="/save conversations.jsonl")
        self._last_question()
        lines = [json_line({"messages": list(one.messages)}) for one in self.dialogues]
        try:
            with Path(name).expanduser().open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise Refused(f"cannot write {name}: {error.strerror}") from None
        count = "1 conversation" if len(lines) == 1 else f"{len(lines)} conversations"
        self.view.note(f"({count} appended to {name})")

    def _system(self, said: str) -> None:
        self.dialogues = tuple(Dialogue(said, dialogue.turns) for dialogue in self.dialogues)
        self.view.note("(the system turn is set)" if said else "(there is no system turn)")

    def _set(self, rest: str) -> None:
        if rest:
            name, _, value = rest.partition(" ")
            self.settings = self.settings.changed(name, value.strip())
        self.view.note(f"({self.settings})")

    def _quit(self, _: str) -> None:
        self.over = True
