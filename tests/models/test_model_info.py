"""Model information of the plan equals that of the loaded and trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aligner.errors import AlignerError, ErrorGroup, ModelError, error_location
from aligner.models.fresh import fresh_model
from aligner.models.load import load_model
from aligner.models.model_info import (
    fresh_info,
    length_errors,
    model_info,
    pad_errors,
    plan_training,
    planned_model,
    reward_info,
    vocabulary_errors,
    with_vocabulary,
)
from aligner.models.options import Adapter, FreshModel, ModelOptions
from aligner.models.policy import load_policy
from aligner.models.reward import load_reward_to_train
from aligner.models.save import save_model
from aligner.registry import Registry
from aligner.stage import PlanContext, SlotForecast
from aligner.state import Artifact, ModelCache

FULL = ModelOptions()
ADAPTERS = {
    "lora": Adapter(r=2),
    "rslora": Adapter(method="rslora", r=4, lora_alpha=3),
    "dora": Adapter(method="dora", r=3),
    "targets": Adapter(r=2, target_modules=("q_proj", "v_proj")),
    "head": Adapter(r=2, modules_to_save=("lm_head",)),
}


def complaint(action: Any) -> str:
    with pytest.raises(AlignerError) as refused:
        action()
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "then"),
    [
        *((name, None) for name in ADAPTERS),
        ("lora", "continue"),
        ("dora", "merge"),
        ("targets", "merge and fresh"),
        ("rslora", "stack"),
        ("head", "continue"),
    ],
)
def test_planned_parameters_are_those_that_are_trained(
    make: Any, tmp_path: Path, name: str, then: str | None
) -> None:
    start, model_cache = make("qwen2"), ModelCache()
    steps = [ModelOptions(adapter=ADAPTERS[name])]
    if then is not None:
        new = Adapter(r=5) if then in ("merge and fresh", "stack") else None
        word: Any = then.split()[0]
        steps.append(ModelOptions(adapter=new, incoming=word))
    facts, artifact = model_info(start), start
    for number, options in enumerate(steps):
        plan = plan_training(facts, options)
        prepared = load_policy(artifact, model_cache, options, step="x", seed=7)
        assert (plan.adapter_plan, plan.incoming) == (prepared.adapter_plan, prepared.incoming)
        assert (plan.trained, plan.parameters) == (prepared.trained, prepared.parameters)
        artifact = save_model(
            prepared.model, tmp_path / str(number), model_cache=model_cache, base=prepared.base
        )
        facts = plan.after
        found = model_info(artifact)
        assert len(facts.adapters) == len(found.adapters) == len(artifact.adapters)
        assert facts.parameters == found.parameters


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("options", [FULL, ModelOptions(adapter=Adapter(r=2))])
def test_a_reward_model_is_counted_with_its_head(
    make: Any, tmp_path: Path, kind: str, options: ModelOptions
) -> None:
    start = make(kind)
    plan = plan_training(reward_info(model_info(start)), options)
    prepared = load_reward_to_train(start, ModelCache(), options, step="x", seed=7, pad=0)
    assert (plan.trained, plan.parameters) == (prepared.trained, prepared.parameters)
    saved = save_model(prepared.model, tmp_path / "r", model_cache=ModelCache(), base=prepared.base)
    found = model_info(saved, reward=True)
    assert (found.parameters, len(found.adapters)) == (plan.after.parameters, len(saved.adapters))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_facts_are_those_of_the_loaded_model(make: Any, kind: str) -> None:
    start = make(kind)
    facts, model = model_info(start), load_model(start, ModelCache())
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (facts.positions, facts.vocab_size, facts.dtype) == (32, 24, "float32")
    assert with_vocabulary(facts, 24) == facts
    assert with_vocabulary(facts, 30).vocab_size == 30
    assert with_vocabulary(facts, 30).parameters > facts.parameters


def test_facts_of_a_fresh_model_are_those_of_the_one_that_is_made() -> None:
    shape = FreshModel(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, tie_word_embeddings=False
    )
    model = fresh_model(shape, vocab_size=50, seed=1)
    facts = fresh_info(shape, vocab_size=50)
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (facts.positions, facts.vocab_size) == (512, 50)


def test_planning_takes_the_model_that_an_earlier_step_will_leave(make: Any) -> None:
    start = make()

    def look(**facts: Any) -> PlanContext:
        slots: Any = {"policy": SlotForecast(made_by="model", facts=facts)}
        return PlanContext(
            step="x",
            where="r.yaml:3",
            recipe_folder=Path(),
            seed=1,
            slots=slots,
            registry=Registry(),
            memo=memo,
        )

    memo: dict[str, Any] = {}
    first = planned_model(look(artifact=start), "policy")
    assert planned_model(look(artifact=start), "policy") is first
    wider = with_vocabulary(first, 40)
    assert planned_model(look(artifact=start, model=wider), "policy") is wider


def test_all_that_is_wrong_with_an_adapter_is_said_at_once(make: Any) -> None:
    adapter = Adapter(target_modules=("q_prj", "lm_head"), modules_to_save=("embed_tokens", "nrm"))
    with pytest.raises(ErrorGroup) as refused:
        plan_training(
            model_info(make()), ModelOptions(adapter=adapter), at=lambda name: f"r.yaml:3 ({name})"
        )
    assert str(refused.value).splitlines() == [
        "r.yaml:3 (adapter): the model has no module 'q_prj' for the adapter",
        "  hint: did you mean 'q_proj'?",
        "r.yaml:3 (adapter): the model has no module 'nrm' for the adapter",
        "  hint: did you mean 'norm'?",
        "r.yaml:3 (adapter): an adapter on the LM head 'lm_head' does not work with preference "
        "and chunked losses",
        "  hint: remove it from `target_modules`, or train it in full under `modules_to_save`",
        "r.yaml:3 (adapter): 'embed_tokens' shares its weights between embedding and LM head",
        "  hint: remove it, or train the full model",
    ]


def test_an_adapter_on_what_takes_none_is_refused(make: Any) -> None:
    options = ModelOptions(adapter=Adapter(target_modules=("norm",)))
    text = complaint(lambda: plan_training(model_info(make()), options, at=lambda _: "r.yaml:3"))
    assert text == (
        "r.yaml:3: an adapter cannot target 'norm', which is a LlamaRMSNorm\n"
        "  hint: name linear modules, or remove `target_modules`"
    )


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_an_adapter_on_the_experts_of_a_mixture_is_refused(make: Any, dropout: float) -> None:
    start, options = make("moe"), ModelOptions(adapter=Adapter(r=2, lora_dropout=dropout))
    expected = (
        "r.yaml:3: adapters on the experts of a mixture-of-experts model are not supported\n"
        "  hint: name other modules, such as `target_modules: [q_proj, k_proj, v_proj, o_proj]`"
    )
    facts = model_info(start)
    assert complaint(lambda: plan_training(facts, options, at=lambda _: "r.yaml:3")) == expected

    def load() -> None:
        with error_location("r.yaml:3"):
            load_policy(start, ModelCache(), options, step="x", seed=7)

    assert complaint(load) == expected


def test_stacking_what_cannot_be_stacked_is_refused_before_loading(
    make: Any, tmp_path: Path
) -> None:
    facts = plan_training(model_info(make()), ModelOptions(adapter=ADAPTERS["dora"])).after
    options = ModelOptions(adapter=Adapter(r=2), incoming="stack")
    assert complaint(lambda: plan_training(facts, options, at=lambda _: "r.yaml:3")) == (
        "r.yaml:3: a dora adapter rescales the full weight, so it cannot be part of a stack\n"
        "  hint: use `incoming: merge`, or `incoming: continue`"
    )
    reward = reward_info(model_info(make()))
    reward = plan_training(reward, ModelOptions(adapter=Adapter(r=2))).after
    assert complaint(lambda: plan_training(reward, options)) == (
        "the adapter of a reward model contains its head, so it cannot be part of a stack\n"
        "  hint: use `incoming: merge`, or remove `adapter` to train the incoming adapter further"
    )


def test_whole_weights_in_four_bits_cannot_be_trained(make: Any) -> None:
    options = ModelOptions(quantize="nf4")
    assert complaint(lambda: plan_training(model_info(make()), options)) == (
        "`quantize: nf4`, but quantized weights cannot be trained\n"
        "  hint: add an `adapter`, or remove `quantize`"
    )


@pytest.fixture
def foreign(make: Any, tmp_path: Path) -> Any:
    """An artifact whose adapter's settings or weights have been edited."""

    def made(weights: Any = None, **settings: Any) -> Artifact:
        prepared = load_policy(
            make(), ModelCache(), ModelOptions(adapter=Adapter(r=2)), step="x", seed=7
        )
        saved = save_model(
            prepared.model, tmp_path / "a", model_cache=ModelCache(), base=prepared.base
        )
        path = tmp_path / "a" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        if weights is not None:
            file = tmp_path / "a" / "adapter_model.safetensors"
            save_file(weights(load_file(file)), file)
        return saved

    return made


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (
            {"peft_type": "PROMPT_TUNING"},
            "contains an adapter of type 'PROMPT_TUNING', which is not supported\n"
            "  hint: supported are lora, rslora and dora",
        ),
        (
            {"peft_type": "IA3"},
            "contains an adapter of type 'IA3', which is not supported\n"
            "  hint: supported are lora, rslora and dora",
        ),
        (
            {"init_lora_weights": "pissa"},
            "contains a LoRA adapter with init_lora_weights: pissa, which is not supported\n"
            "  hint: merge it into its model with peft, and start from the merged model",
        ),
        (
            {"trainable_token_indices": [1], "megatron_config": {"a": 1}},
            "contains a LoRA adapter with megatron_config, trainable_token_indices, which is not "
            "supported\n"
            "  hint: merge it into its model with peft, and start from the merged model",
        ),
    ],
)
def test_adapters_that_a_chain_cannot_carry_are_refused(
    foreign: Any, tmp_path: Path, settings: dict[str, Any], what: str
) -> None:
    artifact = foreign(**settings)
    expected = f"{tmp_path / 'a'} {what}"
    assert complaint(lambda: model_info(artifact)) == expected
    assert complaint(lambda: load_model(artifact, ModelCache())) == expected


@pytest.mark.parametrize("change", ["shape", "missing", "foreign"])
def test_an_adapter_of_another_model_is_refused(foreign: Any, tmp_path: Path, change: str) -> None:
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"

    def edit(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if change == "shape":
            return weights | {name: torch.zeros(2, 99)}
        if change == "missing":
            return {key: value for key, value in weights.items() if key != name}
        return weights | {name.replace("layers.0", "layers.9"): torch.zeros(2, 24)}

    artifact = foreign(edit)
    planned = complaint(lambda: model_info(artifact))
    what = {
        "shape": f"{name} is [2, 99], but the model needs [2, 24]",
        "missing": f"it has no {name}",
        "foreign": f"it has a foreign {name.replace('layers.0', 'layers.9')}",
    }[change]
    assert planned == (
        f"the adapter in {tmp_path / 'a'} does not fit this model: {what}\n"
        "  hint: it was trained on another model, or with another vocabulary"
    )
    with pytest.raises(ModelError, match="does not fit this model"):
        load_model(artifact, ModelCache())


def test_a_policy_is_not_taken_for_a_reward_model(make: Any) -> None:
    start = make()
    assert complaint(lambda: model_info(start, reward=True)) == (
        f"{start.path} contains no reward head (score.weight)\n"
        "  hint: the head would be random; train a reward model first"
    )


def test_lengths_tokens_and_padding_are_held_against_the_model(make: Any) -> None:
    facts = model_info(make())
    assert length_errors(facts, 32) == vocabulary_errors(facts, 24) == pad_errors(0, 2) == []
    assert [str(error) for error in length_errors(facts, 64)] == [
        "max_length 64 is above the 32 positions of the model\n  hint: use 32 or less"
    ]
    assert [str(error) for error in vocabulary_errors(facts, 25)] == [
        "the tokenizer has 25 tokens, but the model's embedding has 24 rows\n"
        "  hint: add an earlier `chat` step, which resizes the embedding"
    ]
    assert [str(error) for error in (*pad_errors(None, 2), *pad_errors(2, 2))] == [
        "the tokenizer has no padding token\n  hint: add an earlier `chat` step, which sets one",
        "the padding token is also the end-of-text token (id 2), so a reward model cannot see "
        "that an answer ended\n"
        "  hint: add an earlier `chat` step, which sets a padding token",
    ]


def test_a_real_pretrained_model_is_known_by_its_published_size(shared: Path) -> None:
    facts = model_info(Artifact(path=str(shared / "models" / "stories260K")))
    assert (facts.parameters, facts.positions, facts.vocab_size) == (260_032, 512, 512)
