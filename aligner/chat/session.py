"""A chat: handle a message or a command, and let each model answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aligner.chat.dialogue import Dialogue
from aligner.chat.model import ChatModel, ChatPrompt
from aligner.chat.reply import Reply
from aligner.chat.settings import ChatError, ChatSettings
from aligner.chat.views import ChatView
from aligner.data.reading.messages import MalformedRowError, read_text
from aligner.errors import did_you_mean
from aligner.terminal.json_output import json_line
from aligner.terminal.text import one_line

HELP = """\
/retry          answer the last question again
/undo           remove the last question and its answer
/save FILE      append the chat to FILE, as a JSON line of messages to train on
/system TEXT    set the system message; without TEXT, remove it
/set NAME VALUE set temperature, top_p, top_k, max_new_tokens or seed; without arguments, show them
/help           show this list
/quit           leave, like Ctrl-D
End a line with \\ to continue it on the next one. Begin a message with // to send a leading /."""


class ChatSession:
    """A chat with one model, or with several that get the same questions."""

    def __init__(
        self,
        models: Sequence[ChatModel],
        options: ChatSettings,
        view: ChatView,
        *,
        system: str = "",
    ) -> None:
        self.models, self.options, self.view = tuple(models), options, view
        self.dialogues = tuple(Dialogue(system) for _ in models)
        """One dialogue per model: each continues from its own answers."""
        self.ended = False
        self._num_answers = 0

    def handle(self, line: str) -> None:
        """Answer a message or carry out a command.

        Raises:
            AlignerError: It cannot be done; the dialogues are unchanged.
        """
        line = line.strip()
        if not line:
            return
        if not line.startswith("/"):
            self._ask(line, [dialogue.with_user(line) for dialogue in self.dialogues])
        elif line.startswith("//"):
            self._ask(line, [dialogue.with_user(line[1:]) for dialogue in self.dialogues])
        else:
            name, _, rest = line.partition(" ")
            commands = self._commands()
            if name not in commands:
                hint = did_you_mean(name, commands)
                raise ChatError(f"unknown command {one_line(name)}", hint=hint)
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

    def _ask(self, message: str, dialogues: Sequence[Dialogue]) -> None:
        """Let every model answer; keep the turn unless an answer was stopped before its first word."""
        try:
            read_text(message, "turn")
            prompts = [self._fit(*pair) for pair in zip(self.models, dialogues, strict=True)]
        except MalformedRowError as error:
            raise ChatError(error.what, hint=error.hint) from None
        # Another answer to the same question must not be the same answer.
        seed = self.options.seed + self._num_answers
        self._num_answers += 1
        replies = [
            Reply(model, prompt, self.options, seed=seed)
            for model, prompt in zip(self.models, prompts, strict=True)
        ]
        self.view.show(replies)
        if any(reply.stopped and not reply.text for reply in replies):
            self.view.note("(stopped before the first word; the question was removed)")
            return
        self.dialogues = tuple(
            dialogue.with_assistant(reply.text)
            for dialogue, reply in zip(dialogues, replies, strict=True)
        )

    def _fit(self, model: ChatModel, dialogue: Dialogue) -> ChatPrompt:
        tokens = self.options.tokens_per_answer(model)
        prompt = model.fit(dialogue.messages, max_new_tokens=tokens)
        if prompt.dropped_turns:
            self.view.note(
                f"({model.name} no longer sees the first {prompt.dropped_turns} turns: "
                f"its context is {model.context_length} tokens)"
            )
        return prompt

    def _retry(self, _: str) -> None:
        question = self._last_question()
        self._ask(
            question,
            [dialogue.without_last_question().with_user(question) for dialogue in self.dialogues],
        )

    def _undo(self, _: str) -> None:
        question = self._last_question()
        self.dialogues = tuple(dialogue.without_last_question() for dialogue in self.dialogues)
        self.view.note(f"(removed: {one_line(question)})")

    def _last_question(self) -> str:
        question = self.dialogues[0].last_question
        if question is None:
            raise ChatError("the chat is empty")
        return question

    def _save(self, name: str) -> None:
        if not name:
            raise ChatError("/save needs the name of a file", hint="/save conversations.jsonl")
        self._last_question()
        lines = [json_line({"messages": list(d.messages)}) for d in self.dialogues]
        try:
            with Path(name).expanduser().open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise ChatError(f"cannot write {name}: {error.strerror}") from None
        count = "1 conversation" if len(lines) == 1 else f"{len(lines)} conversations"
        self.view.note(f"({count} appended to {name})")

    def _system(self, message: str) -> None:
        self.dialogues = tuple(Dialogue(message, dialogue.turns) for dialogue in self.dialogues)
        self.view.note("(system message set)" if message else "(system message removed)")

    def _set(self, rest: str) -> None:
        if rest:
            name, _, value = rest.partition(" ")
            self.options = self.options.changed(name, value.strip())
        self.view.note(f"({self.options})")

    def _quit(self, _: str) -> None:
        self.ended = True
