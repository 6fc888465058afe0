"""Table of LLaMA-Factory's settings and their equivalents in a recipe."""

from __future__ import annotations

from aligner import ExternalConfig
from aligner.kit.declare import ChainError, did_you_mean
from aligner_import.common import (
    CHAT_STAGES,
    OFFLINE_STAGES,
    TEXT_STAGE,
    TRAINER,
    set_adapter,
    set_eval_options,
    set_precision,
    set_truncation,
)
from aligner_import.importer import Importer
from aligner_import.llama_factory_data import set_data
from aligner_import.rules import (
    ATTENTION,
    Rule,
    composed,
    ignored,
    lookup,
    parse_bool,
    parse_fraction,
    parse_names,
    parse_number,
    parse_targets,
    same,
    unsupported,
)
from aligner_import.step_draft import StepDraft

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "ppo": "ppo", "dpo": "dpo"}
TEMPLATES = {
    "llama3": "llama-3", "llama2": "llama-2", "chatml": "chatml", "qwen": "qwen", "qwen3_nothink": "qwen",
    "gemma": "gemma", "gemma2": "gemma", "mistral": "mistral", "phi": "phi-3", "zephyr": "zephyr",
    "vicuna": "vicuna", "alpaca": "alpaca", "deepseek3": "deepseek",
}  # fmt: skip
DPO_LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo"}

TOOL_RULES: tuple[Rule, ...] = (
    composed("stage", "the stage"),
    composed("model_name_or_path", "`model`"),
    composed("model_revision", "`model.revision`"),
    composed("finetuning_type", "`adapter`"),
    composed("lora_rank", "`adapter.r`"),
    composed("lora_alpha", "`adapter.lora_alpha`"),
    composed("lora_dropout", "`adapter.lora_dropout`"),
    composed("use_dora", "`adapter.method: dora`"),
    composed("use_rslora", "`adapter.method: rslora`"),
    composed("adapter_name_or_path", "`incoming: continue`, after the file that trains the adapter"),
    composed("create_new_adapter", "`incoming: merge`, with a new `adapter`"),
    composed("lora_target", "`adapter.target_modules`"),
    composed("additional_target", "`adapter.modules_to_save`"),
    composed("quantization_bit", "`quantize`: 4 is nf4, 8 is int8"),
    composed("quantization_method", "`quantize`, with `quantization_bit`"),
    same("flash_attn", "attn_implementation", convert=lookup(ATTENTION, "attention kernel")),
    composed("dataset", "`data`, from the entries of dataset_info.json"),
    composed("eval_dataset", "`eval_data`, likewise"),
    composed("dataset_dir", "folder of dataset_info.json and its files"),
    composed("max_samples", "`data.first`"),
    composed("mix_strategy", "`mixture.meet`, with a `weight` of each data set"),
    composed("interleave_probs", "`weight` of each data set"),
    composed("template", "`chat.template`; the rendered text may differ in details"),
    same("default_system", "chat.system"),
    same("cutoff_len", "max_length", default=2048),
    same("val_size", "hold_out", convert=parse_fraction, only=OFFLINE_STAGES,
         differs="rows are split by a hash of their prompt, so that no prompt is in both splits"),
    composed("train_on_prompt", "`train_on: everything`"),
    composed("mask_history", "`train_on: last`"),
    composed("packing", "`packing`", differs="packed rows never attend to each other, as with neat_packing"),
    composed("neat_packing", "`packing`"),
    same("use_dft_loss", "loss_type", convert=lambda on: "dft" if parse_bool(on) else None, only="sft"),
    same("learning_rate", convert=parse_number, default=5e-5),
    same("pref_beta", "beta", convert=parse_number, only="dpo"),
    composed("pref_loss", "`loss_type`"),
    composed("pref_ftx", "a second `loss_type: sft`, with `loss_weights`"),
    same("dpo_label_smoothing", "label_smoothing", convert=parse_number, only="dpo"),
    same("ld_alpha", convert=parse_number, only="dpo"),
    composed("disable_gradient_checkpointing", "`activation_checkpointing`"),
    composed("pure_bf16", "`precision: pure_bf16`"),
    composed("reward_model", "the reward step; give its file before this one"),
    same("ppo_epochs", "num_ppo_epochs", default=4, only="ppo"),
    composed("ppo_buffer_size", "`prompts` and `num_mini_batches`", only="ppo"),
    composed("per_device_train_batch_size", "`prompts` and `per_device_train_batch_size`", only="ppo"),
    composed("gradient_accumulation_steps", "`prompts`", only="ppo"),
    composed("num_train_epochs", "passes over the prompts", only="ppo",
         differs="one pass over the prompts; set iterations for more"),
    same("ppo_target", "kl_target", default=6.0, only="ppo",
         differs="the KL coefficient is adapted once per iteration by Ziegler's rule, as in TRL"),
    same("ppo_score_norm", "reward_scale", convert=lambda on: "running" if parse_bool(on) else None,
         only="ppo"),
    same("max_new_tokens", only="ppo"),
    same("top_k", only="ppo"),
    same("top_p", only="ppo"),
    same("temperature", only="ppo"),
    *unsupported("full weights or LoRA", "freeze_trainable_layers", "freeze_trainable_modules",
             "oft_rank", "oft_block_size"),
    *unsupported("this loss term is not supported", "pref_bco_weight", decides=True),
    *unsupported("the reference is always the incoming policy, frozen", "ref_model",
             "ref_model_adapters", decides=True),
    *unsupported("reward models that are adapters are not supported: merge it first",
             "reward_model_adapters"),
    *unsupported("advantages are whitened, rewards are not", "ppo_whiten_rewards"),
    *unsupported("streaming data sets are not supported", "streaming", harmless=(False,)),
    *unsupported("rows are shuffled in every epoch", "disable_shuffling"),
    *unsupported("this training method is not supported", "use_galore", "use_apollo", "use_badam",
             "use_llama_pro", "pissa_init", "loraplus_lr_ratio", "use_adam_mini", "use_muon", decides=True),
    *unsupported("the model's own position encoding is used", "rope_scaling", "shift_attn", decides=True),
    *unsupported("images, audio and video are not supported", "image_max_pixels", "video_max_pixels",
             "freeze_vision_tower", "freeze_multi_modal_projector", "media_dir"),
    *unsupported("the chat step adds tokens: chat.special_tokens", "add_special_tokens",
             "new_special_tokens"),
    *unsupported("the vocabulary grows by the tokens of the template only", "resize_vocab"),
    *unsupported("reasoning is rendered as rows and template define it", "enable_thinking", harmless=(True,)),
    *unsupported("the template formats tools", "tool_format"),
    *unsupported("this kernel is not supported", "use_unsloth", "use_unsloth_gc", "mixture_of_depths"),
    *unsupported("evaluation data sets are evaluated together", "eval_on_each_dataset"),
    *ignored("use an evaluate step to generate and score answers", "do_predict", "predict_with_generate"),
    *ignored("accuracy is computed for preference pairs", "compute_accuracy"),
    *ignored("it concerns the machine, not the result", "ray_run_name", "ray_storage_path", "ray_num_workers",
              "resources_per_worker", "placement_strategy", "use_fast_tokenizer", "double_quantization",
              "cache_dir", "upcast_layernorm", "upcast_lmhead_output", "reward_model_type",
              "ray_init_kwargs", "dataset_shards", "buffer_size", "use_cache", "split_special_tokens"),
)  # fmt: skip


def find_stage(config: ExternalConfig) -> str:
    """Return the stage that is equivalent to the file's."""
    method = config.settings.get("stage") or "sft"
    if method not in STAGES:
        raise ChainError(
            f"stage: importing LLaMA-Factory's {method!r} is not supported",
            where=config.at("stage"),
            hint=f"there are {', '.join(STAGES)}; use dpo for preference pairs",
        )
    return STAGES[method]


def set_model(draft: StepDraft) -> None:
    """Set the base model."""
    if draft.has("model_name_or_path"):
        name = str(draft.get("model_name_or_path"))
        draft.set_model(name, "model_name_or_path", draft.get("model_revision"))
    else:
        draft.add_error("model_name_or_path", "model_name_or_path is missing")


def set_trained_weights(draft: StepDraft) -> None:
    """Set the options of the adapter and of quantization."""
    kind = draft.get("finetuning_type", "lora")
    bits = draft.get("quantization_bit")
    if kind == "lora":
        rank = draft.get("lora_rank", 8)
        set_adapter(draft, rank=("lora_rank", 8), alpha=("lora_alpha", 2 * rank),
                dropout=("lora_dropout", 0.0),
                dora="use_dora", rslora="use_rslora")  # fmt: skip
        for key, option, convert in (
            ("lora_target", "adapter.target_modules", parse_targets),
            ("additional_target", "adapter.modules_to_save", parse_names),
        ):
            if draft.has(key):
                draft.put(option, convert(draft.get(key)), key)
        if bits is not None:
            if int(bits) in (4, 8):
                draft.put("quantize", {4: "nf4", 8: "int8"}[int(bits)], "quantization_bit")
            else:
                draft.add_error(
                    "quantization_bit",
                    f"quantization_bit: {bits} bits are not supported, only 4 and 8",
                )
    elif kind == "full":
        for key in ("lora_rank", "lora_alpha", "lora_target"):
            if draft.has(key):
                draft.add_note("not needed", key, "all weights are trained")
    else:
        draft.add_error(
            "finetuning_type", f"finetuning_type: {kind!r} is not supported, only lora and full"
        )
    off = parse_bool(draft.get("disable_gradient_checkpointing", False))
    if not off:
        draft.add("activation_checkpointing", True, "disable_gradient_checkpointing")


def set_chat_options(draft: StepDraft) -> None:
    """Set the chat template and the trained tokens."""
    if draft.stage == TEXT_STAGE:
        return
    name = draft.get("template")
    if name in TEMPLATES:
        draft.chat["template"] = TEMPLATES[name]
    else:
        draft.chat["template"] = "own"
        hint = did_you_mean(str(name), TEMPLATES)
        text = (
            f"the tokenizer's own template instead of {name!r}; {hint}"
            if name
            else "the tokenizer's own"
        )
        draft.add_note("other meaning" if name else "added", "template", f"chat.template: {text}")
    if draft.stage == "sft":
        for key, trained in (("train_on_prompt", "everything"), ("mask_history", "last")):
            if parse_bool(draft.get(key)):
                draft.put("train_on", trained, key)
        if parse_bool(draft.get("packing")) or parse_bool(draft.get("neat_packing")):
            draft.options["packing"] = True
        else:
            set_truncation(draft, "cutoff_len")
    elif draft.stage in CHAT_STAGES.split():
        set_truncation(draft, "cutoff_len")


def set_preference_loss(draft: StepDraft) -> None:
    """Set the losses of DPO."""
    if draft.stage != "dpo":
        return
    loss, extra = draft.get("pref_loss", "sigmoid"), draft.get("pref_ftx", 0.0)
    if loss not in DPO_LOSSES:
        draft.add_error(
            "pref_loss",
            f"pref_loss: {loss!r} is not supported",
            f"there are {', '.join(DPO_LOSSES)}",
        )
    elif extra:
        draft.put("loss_type", [DPO_LOSSES[loss], "sft"], "pref_ftx")
        draft.options["loss_weights"] = [1.0, parse_number(extra)]
    elif draft.has("pref_loss"):
        draft.put("loss_type", DPO_LOSSES[loss], "pref_loss")


def set_ppo_batches(draft: StepDraft) -> None:
    """Set the number of prompts and minibatches of PPO."""
    if draft.stage != "ppo":
        return
    each = int(draft.get("per_device_train_batch_size", 8))
    buffer = int(draft.get("ppo_buffer_size", 1))
    prompts = each * int(draft.get("gradient_accumulation_steps", 1)) * buffer
    draft.options |= {"prompts": prompts, "num_generations": 1, "num_mini_batches": buffer}
    draft.options |= {"per_device_train_batch_size": each, "rollout_batch_size": each}
    draft.add("kl_coef", 0.2, "ppo_target")
    draft.add_note(
        "other meaning",
        "per_device_train_batch_size",
        f"prompts: {prompts} for each iteration over all processes; in LLaMA-Factory on each process",
    )


LLAMA_FACTORY = Importer(
    name="llama-factory",
    title="LLaMA-Factory",
    identifying=frozenset(
        {"finetuning_type", "cutoff_len", "stage", "dataset_dir", "lora_rank", "pref_beta"}
    ),
    method=find_stage,
    method_settings=frozenset({"stage", "reward_model"}),
    rules=(*TOOL_RULES, *(rule for rule in TRAINER if rule.key != "learning_rate")),
    composers=(
        set_model,
        set_trained_weights,
        set_data,
        set_chat_options,
        set_preference_loss,
        set_ppo_batches,
        set_precision,
        set_eval_options,
    ),
    policy_settings=("model_name_or_path", "adapter_name_or_path"),
)
