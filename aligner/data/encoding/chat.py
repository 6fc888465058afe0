"""Tokenize conversations, with the same ids for the same conversation in every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from transformers import PreTrainedTokenizerBase

from aligner.data.encoding.pieces import TextPiece, TextPieceEncoder
from aligner.data.options import TrainOn
from aligner.data.reading.messages import MalformedRowError, raise_malformed
from aligner.data.rows import Conversation, Messages, Preference, Prompt, Text, Tools
from aligner.data.store.token_rows import PreferenceTokens, SequenceTokens
from aligner.data.templates.rendering import (
    RenderedChat,
    RewrittenTurnError,
    TemplateInput,
    TokenizerTemplate,
    assistant_indices,
)


@dataclass(frozen=True)
class RenderedSample:
    """A rendered conversation in pieces, before these are tokenized."""

    pieces: tuple[TextPiece, ...]
    left_out: str = ""
    """Description of what the template omits."""
    special_text: bool = False
    """True if a turn contains the text of a control token."""


def trained_answers(messages: Messages, train_on: TrainOn) -> list[int]:
    """Return the assistant's turns that are trained, counted from 0."""
    answers = assistant_indices(messages)
    if train_on == "last":
        return [len(answers) - 1] if answers else []
    if train_on == "weighted":
        return [n for n, index in enumerate(answers) if messages[index].get("weight", 1)]
    return list(range(len(answers)))


class ChatEncoder:
    """Renderer and tokenizer of conversations, made once for a tokenizer and used for many rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise ModelError if the tokenizer has no usable chat template."""
        self.template = TokenizerTemplate(tokenizer)
        self.encoder = TextPieceEncoder(tokenizer)
        self.tokenizer = tokenizer
        end = self._end_of_turn()
        self.ends_answers = end is not None
        """True if answers end with a control token, so that generation can stop."""
        eos = tokenizer.eos_token_id
        self.stops = list(dict.fromkeys(token for token in (end, eos) if token is not None))

    def conversation(
        self, messages: Messages, tools: Tools | None, train_on: TrainOn
    ) -> list[RenderedSample]:
        """Cut one conversation into pieces; see `conversations`.

        Raises:
            MalformedRowError: The template refuses it, or does not show what a trained turn says.
        """
        return raise_malformed(self.conversations([(messages, tools)], train_on)[0])

    def conversations(
        self, rows: Sequence[tuple[Messages, Tools | None]], train_on: TrainOn
    ) -> list[list[RenderedSample] | MalformedRowError]:
        """Cut conversations into pieces: each is one sample, or one for each trained turn.

        There are several if the template rewrites earlier turns, for example omits earlier reasoning:
        each turn is then trained as the last of a conversation that ends with it.
        """
        wanted = []
        for messages, tools in rows:
            chosen = trained_answers(messages, train_on)
            # Templates omit reasoning from earlier turns; without it, verifying the last turn suffices.
            proven = chosen if any(m.get("reasoning") for m in messages) else chosen[-1:]
            wanted.append(TemplateInput(messages, tools, prove=proven))
        return self.template.render_all(wanted, partial(self._samples, train_on=train_on))

    def _samples(
        self, wanted: TemplateInput, rendered: RenderedChat, train_on: TrainOn
    ) -> list[RenderedSample]:
        chosen = trained_answers(wanted.messages, train_on)
        if all(self._aligned(wanted, rendered, number) for number in chosen):
            return [self._sample(wanted, rendered, chosen, train_on)]
        if train_on == "everything":
            raise RewrittenTurnError(
                "the chat template rewrites earlier turns, so not everything can be trained on"
            )
        alone = [
            TemplateInput(wanted.messages[: wanted.answers[n] + 1], wanted.tools, prove=[n])
            for n in chosen
        ]
        return [
            raise_malformed(sample) for sample in self.template.render_all(alone, self._last_turn)
        ]

    def _last_turn(self, wanted: TemplateInput, rendered: RenderedChat) -> RenderedSample:
        (last,) = wanted.prove
        if not self._aligned(wanted, rendered, last):
            count = len(wanted.messages)
            what = f"the chat template does not show turn {count} as the model would write it"
            raise MalformedRowError(what)
        return self._sample(wanted, rendered, [last], "last")

    def prompt(self, messages: Messages, tools: Tools | None = None) -> RenderedSample:
        """Cut turns that wait for an answer into pieces.

        Raises:
            MalformedRowError: The template refuses them.
        """
        return raise_malformed(self.prompts([(messages, tools)])[0])

    def prompts(
        self, rows: Sequence[tuple[Messages, Tools | None]]
    ) -> list[RenderedSample | MalformedRowError]:
        """Cut conversations that wait for an answer into pieces."""
        wanted = [TemplateInput(messages, tools, ask=True) for messages, tools in rows]
        return self.template.render_all(wanted, partial(self._sample, chosen=(), train_on="last"))

    def pair(
        self, prompt: Messages, answer: Messages, tools: Tools | None = None
    ) -> tuple[RenderedSample, int]:
        """Cut a prompt with its answer into pieces, and count the pieces that are the prompt's.

        Raises:
            MalformedRowError: The template refuses it, or shows the prompt otherwise than for generation.
        """
        return raise_malformed(self.pairs([(prompt, answer, tools)])[0])

    def pairs(
        self, rows: Sequence[tuple[Messages, Messages, Tools | None]]
    ) -> list[tuple[RenderedSample, int] | MalformedRowError]:
        """Cut prompts with an answer each into pieces, and count the pieces that are the prompt's."""
        wanted = [
            TemplateInput((*prompt, *answer), tools, prove=[len(assistant_indices(prompt))])
            for prompt, answer, tools in rows
        ]
        return self.template.render_all(wanted, self._answered_prompt)

    def _answered_prompt(
        self, wanted: TemplateInput, rendered: RenderedChat
    ) -> tuple[RenderedSample, int]:
        (first,) = wanted.prove
        answers = range(first, len(wanted.answers))
        if not all(self._aligned(wanted, rendered, number) for number in answers):
            what = "the chat template does not render the answer as the model would generate it"
            raise RewrittenTurnError(what)
        sample = self._sample(wanted, rendered, answers, "assistant")
        count = next(i for i, piece in enumerate(sample.pieces) if piece.answer is not None)
        return sample, count

    def encode(
        self, samples: Sequence[RenderedSample], origins: Sequence[str] = ()
    ) -> list[SequenceTokens]:
        """Tokenize samples, in one batch."""
        pieces = [piece for sample in samples for piece in sample.pieces]
        ids = iter(self.encoder.encode(pieces))
        encoded = []
        for number, sample in enumerate(samples):
            row = SequenceTokens([], [], (), origins[number] if origins else "")
            ends: dict[int, int] = {}
            for piece in sample.pieces:
                tokens = next(ids)
                row.input_ids.extend(tokens)
                row.trained.extend([piece.trained] * len(tokens))
                if piece.answer is not None:
                    ends[piece.answer] = len(row.input_ids)
            encoded.append(replace(row, ends=tuple(ends.values())))
        return encoded

    def _aligned(self, wanted: TemplateInput, rendered: RenderedChat, number: int) -> bool:
        span = rendered.turns[number]
        if span is None:
            return False
        turn, answer = rendered.text[span[0] : span[1]], wanted.messages[wanted.answers[number]]
        if not self.template.shows(answer, turn):
            return False
        return number not in wanted.prove or rendered.proves(number)

    def _sample(
        self,
        wanted: TemplateInput,
        rendered: RenderedChat,
        chosen: Sequence[int],
        train_on: TrainOn,
    ) -> RenderedSample:
        everything = train_on == "everything"
        sections: list[tuple[int, bool, int | None]] = []
        end = 0
        for number, span in enumerate(rendered.turns):
            # Every answer is a section, trained or not, so that its tokens are always the same.
            if span is not None:
                trained = number in chosen
                sections.append((span[0], everything, None))
                sections.append((span[1], everything or trained, number if trained else None))
                end = span[1]
        # White space that the template adds after the last answer is never part of a prompt.
        if rendered.text[end:].strip() or wanted.messages[-1]["role"] != "assistant":
            sections.append((len(rendered.text), everything, None))
        return RenderedSample(
            pieces=tuple(self.encoder.split(rendered.text, sections)),
            left_out=self.template.left_out(wanted.messages, wanted.tools, rendered.text),
            special_text=self.template.spells_control(wanted.messages),
        )

    def _end_of_turn(self) -> int | None:
        """Return the control token with which the template ends answers; None if there is none."""
        question = {"role": "user", "content": "question"}
        sample, count = self.pair((question,), ({"role": "assistant", "content": "answer"},))
        answer = self.encode([RenderedSample(sample.pieces[count:])])[0].input_ids
        return answer[-1] if answer[-1] in self.encoder.control.values() else None


def encode_conversation(
    row: Conversation, tokenizer: PreTrainedTokenizerBase, *, train_on: TrainOn = "weighted"
) -> SequenceTokens:
    """Tokenize a conversation, with the mask of trained tokens.

    Raises:
        MalformedRowError: the template refuses the row.
        RewrittenTurnError: the template rewrites its earlier turns, so that it is several samples.
        ModelError: there is no usable template.
    """
    chat = ChatEncoder(tokenizer)
    samples = chat.conversation(row.messages, row.tools, train_on)
    if len(samples) > 1:
        raise RewrittenTurnError(
            "the chat template rewrites earlier turns: the row is several samples"
        )
    return chat.encode(samples, [row.origin])[0]


def encode_prompt(
    row: Prompt | Conversation | Messages, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Tokenize turns up to the start of an answer."""
    chat = ChatEncoder(tokenizer)
    messages, tools = (row, None) if isinstance(row, tuple | list) else (row.messages, row.tools)
    return chat.encode([chat.prompt(tuple(messages), tools)])[0].input_ids


def encode_preference(row: Preference, tokenizer: PreTrainedTokenizerBase) -> PreferenceTokens:
    """Tokenize a prompt and its two answers.

    Raises:
        MalformedRowError: the template refuses the row, or shows the prompt otherwise before either answer.
        ModelError: there is no usable template.
    """
    chat = ChatEncoder(tokenizer)
    sides = [chat.pair(row.prompt, side, row.tools) for side in (row.chosen, row.rejected)]
    made = encode_pairs([row], sides, chat)[0]
    if made is None:
        raise RewrittenTurnError("the chat template renders the prompt differently for each answer")
    return made


def encode_pairs(
    rows: Sequence[Preference], sides: Sequence[tuple[RenderedSample, int]], chat: ChatEncoder
) -> list[PreferenceTokens | None]:
    """Tokenize pairs, in one batch; return None for a pair whose prompts differ in their tokens.

    Args:
        rows: The pairs.
        sides: Results of `ChatEncoder.pair` for the chosen and the rejected answer of each pair in turn.
        chat: The encoder that made them.
    """
    prompts = chat.encode([RenderedSample(sample.pieces[:count]) for sample, count in sides])
    answers = chat.encode([RenderedSample(sample.pieces[count:]) for sample, count in sides])
    made: list[PreferenceTokens | None] = []
    for number, row in enumerate(rows):
        (asked, other), (chosen, rejected) = (
            encoded[2 * number : 2 * number + 2] for encoded in (prompts, answers)
        )
        tokens = PreferenceTokens(
            asked.input_ids,
            chosen.input_ids,
            rejected.input_ids,
            chosen.trained,
            rejected.trained,
            row.margin,
            row.origin,
        )
        made.append(tokens if asked.input_ids == other.input_ids else None)
    return made


def encode_texts(rows: Sequence[Text], encoder: TextPieceEncoder) -> list[list[int]]:
    """Tokenize documents: with the ids that the tokenizer adds before texts, and one `eos` at the end."""
    first, last = encoder.frame()
    pieces = [TextPiece(row.text, trained=True, literal=True) for row in rows]
    return [[*first, *ids, *last] for ids in encoder.encode(pieces)]


def encode_text(row: Text, tokenizer: PreTrainedTokenizerBase) -> SequenceTokens:
    """Tokenize a document; every token is trained."""
    ids = encode_texts([row], TextPieceEncoder(tokenizer))[0]
    return SequenceTokens(ids, [True] * len(ids), (len(ids),), row.origin)


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end an answer: the end-of-turn token of the template, and `eos`."""
    if tokenizer.chat_template:
        return ChatEncoder(tokenizer).stops
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
