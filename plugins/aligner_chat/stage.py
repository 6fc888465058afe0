"""What the chat stage takes, reads and writes."""

from __future__ import annotations

from aligner import ModelState, Plan, PlanContext, Stage, StageOptions, StepContext


class ChatOptions(StageOptions):
    template: str
    """How conversations are written: a name (chatml, llama-3, qwen, tiny, …), a Jinja file, or `own`
    for the template the tokenizer has already."""
    system: str | None = None
    """System turn for conversations that have none."""
    bos: bool = True
    """Begin conversations with the beginning-of-sequence token where the tokenizer begins plain texts
    with it, also if the template does not write it."""
    end_of_turn: str | None = None
    """Token that ends an answer; it becomes the tokenizer's end-of-sequence token. A named template
    says its own; with a file or `own`, unset leaves the tokenizer's as it is."""
    special_tokens: tuple[str, ...] = ()
    """Further texts that become tokens of their own and are never read from what users write."""


class Chat(Stage[ChatOptions]):
    """Give the tokenizer its chat template and special tokens, and the policy a row for each of them."""

    name = "chat"
    requires = frozenset({"tokenizer", "policy"})
    provides = frozenset({"tokenizer", "policy"})

    def plan(self, context: PlanContext) -> Plan:
        from aligner_chat.plan import plan  # the tokenizer waits until a recipe is looked at

        return plan(self.options, context)

    def run(self, state: ModelState, context: StepContext) -> ModelState:
        from aligner_chat.apply import apply  # torch waits until a step really runs

        return state.put(context.step, **apply(self.options, state, context))
