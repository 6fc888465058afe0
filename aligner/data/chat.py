"""Turn conversations into token ids, the same ids for the same conversation wherever it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar, cast

from transformers import PreTrainedTokenizerBase

from aligner.data.messages import Malformed, caught
from aligner.data.pieces import Encoder, Piece
from aligner.data.rendering import Rendered, Rewritten, Template, ToRender, answers_of
from aligner.data.rows import Conversation, Messages, Preference, Prompt, Text, Tools
from aligner.data.spec import TrainOn

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """A row as the model sees it."""

    input_ids: list[int]
    trained: list[bool]
    """Whether a loss is put on each token."""
    ends: tuple[int, ...] = ()
    """Where each of the assistant's trained turns ends, as a number of tokens."""
    origin: str = ""


@dataclass(frozen=True)
class PreferenceTokens:
    """A pair as the model sees it: either answer goes right after the prompt."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_trained: list[bool] = field(default_factory=list)
    """False for what the assistant did not say, tool results between its turns for instance."""
    rejected_trained: list[bool] = field(default_factory=list)
    margin: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class Sample:
    """A conversation cut into pieces, before its pieces are encoded."""

    pieces: tuple[Piece, ...]
    left_out: str = ""
    """What the template does not show, in words."""
    special_text: bool = False
    """Whether a turn spells a control token."""


def chosen_answers(messages: Messages, train_on: TrainOn) -> list[int]:
    """Which of the assistant's turns are trained, counted from 0."""
    answers = answers_of(messages)
    if train_on == "last":
        return [len(answers) - 1] if answers else []
    if train_on == "weighted":
        return [n for n, index in enumerate(answers) if messages[index].get("weight", 1)]
    return list(range(len(answers)))


class Chat:
    """Renders and encodes with one tokenizer; made once, then used for many rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, where: str = "") -> None:
        """Raises ModelError where the tokenizer has no usable chat template."""
        self.template = Template(tokenizer, where=where)
        self.encoder = Encoder(tokenizer)
        self.tokenizer = tokenizer
        end = self._end_of_turn()
        self.ends_answers = end is not None
        """Whether answers end with a control token, so that generation can stop."""
        eos = tokenizer.eos_token_id
        self.stops = list(dict.fromkeys(token for token in (end, eos) if token is not None))

    def conversation(
        self, messages: Messages, tools: Tools | None, train_on: TrainOn
    ) -> list[Sample]:
        """Do the same as `conversations` with one.

        Raises:
            Malformed: The template refuses it, or does not show what a trained turn says.
        """
        return _valid(self.conversations([(messages, tools)], train_on))

    def conversations(
        self, rows: Sequence[tuple[Messages, Tools | None]], train_on: TrainOn
    ) -> list[list[Sample] | Malformed]:
        """Cut conversations into pieces: each one sample, or one for each trained turn.

        Several come from a template that rewrites earlier turns (leaves out earlier reasoning, say):
        each turn is then trained as the last of a conversation that ends with it.
        """
        chosen = [chosen_answers(messages, train_on) for messages, _ in rows]
        wanted = [
            ToRender(messages, tools, prove=_proven(messages, numbers))
            for (messages, tools), numbers in zip(rows, chosen, strict=True)
        ]
        made = [
            caught(self._whole, each, rendered, numbers, train_on)
            for each, rendered, numbers in zip(
                wanted, self.template.render_all(wanted), chosen, strict=True
            )
        ]
        rewritten = [n for n, sample in enumerate(made) if sample is None]
        alone = iter(self._alone([(wanted[n], chosen[n]) for n in rewritten]))
        return [
            next(alone) if sample is None else sample if isinstance(sample, Malformed) else [sample]
            for sample in made
        ]

    def _whole(
        self,
        wanted: ToRender,
        rendered: Rendered | Malformed,
        chosen: Sequence[int],
        train_on: TrainOn,
    ) -> Sample | None:
        """Cut a conversation into the pieces of one sample; None if its template rewrites a chosen turn."""
        if isinstance(rendered, Malformed):
            raise rendered
        if all(self._aligned(wanted, rendered, number) for number in chosen):
            return self._sample(wanted, rendered, chosen, train_on)
        if train_on == "everything":
            raise Rewritten(
                "the chat template rewrites earlier turns, so not everything can be trained on"
            )
        return None

    def _alone(
        self, rows: Sequence[tuple[ToRender, Sequence[int]]]
    ) -> Iterator[list[Sample] | Malformed]:
        """Cut conversations into one sample for each chosen turn."""
        wanted = [
            ToRender(row.messages[: row.answers[number] + 1], row.tools, prove=[number])
            for row, chosen in rows
            for number in chosen
        ]
        samples = [
            caught(self._last, *both)
            for both in zip(wanted, self.template.render_all(wanted), strict=True)
        ]
        following = iter(samples)
        for _, chosen in rows:
            of_row = list(islice(following, len(chosen)))
            yield next(
                (sample for sample in of_row if isinstance(sample, Malformed)),
                cast(list[Sample], of_row),
            )

    def _last(self, wanted: ToRender, rendered: Rendered | Malformed) -> Sample:
        """Cut a conversation into pieces of which its last turn is trained."""
        if isinstance(rendered, Malformed):
            raise rendered
        (number,) = wanted.prove
        if not self._aligned(wanted, rendered, number):
            turn = len(wanted.messages)
            what = f"the chat template does not show turn {turn} as the model would write it"
            raise Malformed(what)
        return self._sample(wanted, rendered, [number], "last")

    def prompt(self, messages: Messages, tools: Tools | None = None) -> Sample:
        """Do the same as `prompts` with one.

        Raises:
            Malformed: The template refuses it.
        """
        return _valid(self.prompts([(messages, tools)]))

    def prompts(self, rows: Sequence[tuple[Messages, Tools | None]]) -> list[Sample | Malformed]:
        """Cut turns that wait for an answer into pieces."""
        wanted = [ToRender(messages, tools, ask=True) for messages, tools in rows]
        return [
            rendered
            if isinstance(rendered, Malformed)
            else self._sample(each, rendered, (), "last")
            for each, rendered in zip(wanted, self.template.render_all(wanted), strict=True)
        ]

    def pair(
        self, prompt: Messages, answer: Messages, tools: Tools | None = None
    ) -> tuple[Sample, int]:
        """Do the same as `pairs` with one.

        Raises:
            Malformed: The template refuses it, or shows the prompt otherwise than for generation.
        """
        return _valid(self.pairs([(prompt, answer, tools)]))

    def pairs(
        self, rows: Sequence[tuple[Messages, Messages, Tools | None]]
    ) -> list[tuple[Sample, int] | Malformed]:
        """Cut prompts with an answer each into pieces, and count the pieces that are the prompt's."""
        wanted = [
            ToRender((*prompt, *answer), tools, prove=[len(answers_of(prompt))])
            for prompt, answer, tools in rows
        ]
        return [
            caught(self._answered, *both)
            for both in zip(wanted, self.template.render_all(wanted), strict=True)
        ]

    def _answered(self, wanted: ToRender, rendered: Rendered | Malformed) -> tuple[Sample, int]:
        if isinstance(rendered, Malformed):
            raise rendered
        (first,) = wanted.prove
        answers = range(first, len(wanted.answers))
        if not all(self._aligned(wanted, rendered, number) for number in answers):
            what = "the chat template does not show the answer as the model would write it"
            raise Rewritten(what)
        sample = self._sample(wanted, rendered, answers, "assistant")
        count = next(i for i, piece in enumerate(sample.pieces) if piece.answer is not None)
        return sample, count

    def encode(self, samples: Sequence[Sample], origins: Sequence[str] = ()) -> list[Encoded]:
        """The token ids of samples, in one batch."""
        pieces = [piece for sample in samples for piece in sample.pieces]
        ids = iter(self.encoder.encode(pieces))
        encoded = []
        for number, sample in enumerate(samples):
            row = Encoded([], [], (), origins[number] if origins else "")
            ends: dict[int, int] = {}
            for piece in sample.pieces:
                tokens = next(ids)
                row.input_ids.extend(tokens)
                row.trained.extend([piece.trained] * len(tokens))
                if piece.answer is not None:
                    ends[piece.answer] = len(row.input_ids)
            encoded.append(replace(row, ends=tuple(ends.values())))
        return encoded

    def _aligned(self, wanted: ToRender, rendered: Rendered, number: int) -> bool:
        span = rendered.turns[number]
        if span is None:
            return False
        turn, answer = rendered.text[span[0] : span[1]], wanted.messages[wanted.answers[number]]
        if not self.template.shows(answer, turn):
            return False
        return number not in wanted.prove or rendered.proves(number)

    def _sample(
        self, wanted: ToRender, rendered: Rendered, chosen: Sequence[int], train_on: TrainOn
    ) -> Sample:
        everything = train_on == "everything"
        stretches: list[tuple[int, bool, int | None]] = []
        end = 0
        for number, span in enumerate(rendered.turns):
            # Every answer is a stretch, trained or not, so that its tokens are always the same.
            if span is not None:
                trained = number in chosen
                stretches.append((span[0], everything, None))
                stretches.append((span[1], everything or trained, number if trained else None))
                end = span[1]
        # After the last answer the template may put white space, which no model will ever see.
        if rendered.text[end:].strip() or wanted.messages[-1]["role"] != "assistant":
            stretches.append((len(rendered.text), everything, None))
        return Sample(
            pieces=tuple(self.encoder.split(rendered.text, stretches)),
            left_out=self.template.left_out(wanted.messages, wanted.tools, rendered.text),
            special_text=self.template.spells_control(wanted.messages),
        )

    def _end_of_turn(self) -> int | None:
        """The control token that the template ends answers with, where it ends them with one."""
        question = {"role": "user", "content": "question"}
        sample, count = self.pair((question,), ({"role": "assistant", "content": "answer"},))
        answer = self.encode([Sample(sample.pieces[count:])])[0].input_ids
        return answer[-1] if answer[-1] in self.encoder.control.values() else None


def _proven(messages: Messages, chosen: Sequence[int]) -> Sequence[int]:
    # Reasoning is what templates leave out of earlier turns; else the last turn's proof will do.
    return chosen if any(message.get("reasoning") for message in messages) else chosen[-1:]


def _valid(results: Sequence[T | Malformed]) -> T:
    (result,) = results
    if isinstance(result, Malformed):
        raise result
    return result


def encode_conversation(
    row: Conversation, tokenizer: PreTrainedTokenizerBase, *, train_on: TrainOn = "weighted"
) -> Encoded:
    """Token ids of a conversation, and which of them are trained.

    Raises:
        Malformed: the template refuses the row.
        Rewritten: the template rewrites its earlier turns, so that it is several samples.
        ModelError: there is no usable template.
    """
    chat = Chat(tokenizer)
    samples = chat.conversation(row.messages, row.tools, train_on)
    if len(samples) > 1:
        raise Rewritten("the chat template rewrites earlier turns: the row is several samples")
    return chat.encode(samples, [row.origin])[0]


def encode_prompt(
    row: Prompt | Conversation | Messages, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Token ids of turns that wait for an answer, up to where the answer begins."""
    chat = Chat(tokenizer)
    messages, tools = (row, None) if isinstance(row, tuple | list) else (row.messages, row.tools)
    return chat.encode([chat.prompt(tuple(messages), tools)])[0].input_ids


def encode_preference(row: Preference, tokenizer: PreTrainedTokenizerBase) -> PreferenceTokens:
    """Token ids of a prompt and its two answers, as `encode_conversation` gives them.

    Raises:
        Malformed: the template refuses the row, or shows the prompt otherwise before either answer.
        ModelError: there is no usable template.
    """
    chat = Chat(tokenizer)
    sides = [chat.pair(row.prompt, side, row.tools) for side in (row.chosen, row.rejected)]
    made = encode_pairs([row], sides, chat)[0]
    if made is None:
        raise Rewritten("the chat template shows the prompt otherwise before either answer")
    return made


def encode_pairs(
    rows: Sequence[Preference], sides: Sequence[tuple[Sample, int]], chat: Chat
) -> list[PreferenceTokens | None]:
    """Token ids of pairs, in one batch; None for a pair whose prompts are not the same tokens.

    Args:
        rows: The pairs.
        sides: What `Chat.pair` made of the chosen and the rejected side of each in turn.
        chat: The same.
    """
    prompts = chat.encode([Sample(sample.pieces[:count]) for sample, count in sides])
    answers = chat.encode([Sample(sample.pieces[count:]) for sample, count in sides])
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


def encode_texts(rows: Sequence[Text], encoder: Encoder) -> list[list[int]]:
    """Token ids of documents: begun as the tokenizer begins texts, ended by its `eos`, once."""
    first, last = encoder.frame()
    pieces = [Piece(row.text, trained=True, literal=True) for row in rows]
    return [[*first, *ids, *last] for ids in encoder.encode(pieces)]


def encode_text(row: Text, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Token ids of a document, all of them trained."""
    ids = encode_texts([row], Encoder(tokenizer))[0]
    return Encoded(ids, [True] * len(ids), (len(ids),), row.origin)


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the template's end-of-turn token, then `eos`, each once."""
    if tokenizer.chat_template:
        return Chat(tokenizer).stops
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
