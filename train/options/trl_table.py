"""Every option of TRL's SFTConfig and GRPOConfig: what it does in `geoclick train sft` and in `geoclick train grpo`.

Those that are the same in both are in BOTH, the others in SFT and GRPO. docs/training_options.md shows the table.
"""

from geoclick.train.options.trl_rules import Condition, Rule, differs, refused, works


def each(names: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for several options."""
    return dict.fromkeys(names.split(), rule)


NO_EVALUATION_LOSS = (
    "has no effect: the evaluation during training generates answers and computes their loss itself"
)
PUSHED_ONCE = "has no effect: push_to_hub pushes the finished run, once"
ROWS_ARE_TOKENS = "has no effect: rows are chats of a click store, whose tokens GeoClick makes itself"
NO_TOOLS = "has no effect: answers call no tools"
WITH_WORKERS = "dataloader_num_workers"
REDUCES_ON_LOSS = Condition(
    reason="depends on evaluations: the learning rate of a step must follow from its number"
)
LAYERWISE = Condition(
    reason="projects the gradients of complete matrices, but LoRA's are of low rank already"
)
BITSANDBYTES = Condition(package="bitsandbytes")
OPTIMIZERS = {
    **dict.fromkeys(
        (
            *("adamw_bnb_8bit", "adamw_8bit", "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit"),
            *("paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
            *("paged_lion_32bit", "paged_lion_8bit", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        ),
        BITSANDBYTES,
    ),
    **dict.fromkeys(
        (
            *("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise"),
            *("galore_adamw_8bit_layerwise", "galore_adafactor_layerwise"),
            *("apollo_adamw", "apollo_adamw_layerwise"),
        ),
        LAYERWISE,
    ),
    **dict.fromkeys(
        ("lomo", "adalomo"),
        Condition(
            reason="updates weights during the backward pass, before gradients are accumulated or clipped"
        ),
    ),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), Condition(package="torchao")),
    **dict.fromkeys(
        ("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), Condition(package="schedulefree")
    ),
    "adamw_torch_xla": Condition(package="torch_xla"),
    "adamw_torch_npu_fused": Condition(package="torch_npu"),
    "adamw_anyprecision": Condition(package="torchdistx"),
    "grokadamw": Condition(package="grokadamw"),
    "stable_adamw": Condition(package="optimi"),
}

BOTH: dict[str, Rule] = {
    # Length, size and rate of the training.
    **each("num_train_epochs max_steps gradient_accumulation_steps max_grad_norm weight_decay", works()),
    **each("lr_scheduler_kwargs warmup_steps adam_beta1 adam_beta2 adam_epsilon optim_args seed", works()),
    "learning_rate": works(),
    "optim": works(values=OPTIMIZERS),
    "optim_target_modules": refused("has no effect: LoRA's modules are chosen by their towers", unless=None),
    "lr_scheduler_type": works(values=dict.fromkeys(("reduce_lr_on_plateau", "greedy"), REDUCES_ON_LOSS)),
    "average_tokens_across_devices": refused(
        "is set by GeoClick: the loss is the mean over all processes", unless=True
    ),
    "auto_find_batch_size": refused(
        "is not supported: a run must have the same batches on every machine; `--dry-run` measures the memory",
        unless=False,
    ),
    # Precision, memory and speed.
    "bf16": differs(
        "computes in bfloat16; false without fp16 computes in float32. The default on a GPU is true"
    ),
    "fp16": differs("computes in float16, with weights of the base in float16; needs a GPU"),
    **each("tf32 torch_empty_cache_steps use_cpu full_determinism", works()),
    **each("activation_checkpointing_kwargs gradient_checkpointing_kwargs", works()),
    **each(
        "bf16_full_eval fp16_full_eval prediction_loss_only eval_use_gather_object batch_eval_metrics",
        refused(NO_EVALUATION_LOSS, unless=False),
    ),
    "eval_do_concat_batches": refused(NO_EVALUATION_LOSS, unless=True),
    "eval_accumulation_steps": refused(NO_EVALUATION_LOSS, unless=None),
    "include_for_metrics": refused(NO_EVALUATION_LOSS),
    "use_liger_kernel": differs(
        "uses Liger's kernels of the layers, but not its loss; needs a GPU", package="liger_kernel"
    ),
    "liger_kernel_config": works(needs="use_liger_kernel"),
    "use_cache": refused("is set by GeoClick: training needs no cache of keys and values", unless=False),
    # Logs.
    **each("logging_strategy logging_steps logging_first_step log_on_each_node log_level", works()),
    **each("log_level_replica report_to run_name project skip_memory_metrics", works()),
    "debug": refused("is not supported: `--debug` shows the traceback of an error", unless=""),
    **each("trackio_space_id trackio_bucket_id trackio_static_space_id", works(needs="report_to")),
    "include_num_input_tokens_seen": works(),
    "disable_tqdm": refused("is set by GeoClick, which has a progress line of its own", unless=True),
    "logging_nan_inf_filter": refused("has no effect: a loss that is not finite ends the run", unless=True),
    # Checkpoints.
    **each("save_steps save_total_limit", works()),
    "save_only_model": refused("is not supported: no run could resume from its checkpoints", unless=False),
    "save_on_each_node": refused(
        "is not supported: all machines of a run write to one output folder", unless=False
    ),
    "enable_jit_checkpoint": refused(
        "is not supported: an interrupted run resumes from its last checkpoint; lower save_steps",
        unless=False,
    ),
    "ignore_data_skip": refused("is not supported: a resumed run continues in its data", unless=False),
    "restore_callback_states_from_checkpoint": refused(
        "has no effect: no callback of a run has a state", unless=False
    ),
    "output_dir": refused(instead="output"),
    "resume_from_checkpoint": refused(instead="resume"),
    # The hub.
    "push_to_hub": differs(
        "pushes the finished run, once, with its card and without paths of this machine", needs="hub_model_id"
    ),
    "hub_private_repo": works(needs="push_to_hub"),
    "hub_model_id": differs(
        "is the NAMESPACE/NAME of push_to_hub, or else of the `geoclick card --push` command of the last line"
    ),
    "hub_strategy": refused(PUSHED_ONCE, unless="every_save"),
    "hub_always_push": refused(PUSHED_ONCE, unless=False),
    "hub_revision": refused(PUSHED_ONCE, unless=None),
    "hub_token": refused(
        "is not supported, because options are written to files",
        instead="`hf auth login` or HF_TOKEN",
        unless=None,
    ),
    # Data.
    **each("dataloader_num_workers dataloader_pin_memory dataloader_drop_last", works()),
    **each(
        "dataloader_prefetch_factor dataloader_persistent_workers dataloader_multiprocessing_context",
        works(needs=WITH_WORKERS),
    ),
    "dataloader_in_order": refused("is set by GeoClick: batches have an order", unless=True),
    "remove_unused_columns": refused(unless=False),
    "label_names": refused(unless=None),
    "length_column_name": refused(unless="length"),
    # Processes.
    **each("ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers", works()),
    **each("ddp_static_graph ddp_backend ddp_timeout deepspeed", works()),
    **each(
        "fsdp fsdp_config",
        refused(
            "is not supported as an option", instead="accelerate_configs/fsdp2.yaml with accelerate launch"
        ),
    ),
    "accelerator_config": refused("is not supported: GeoClick sets the order of batches", unless=None),
    "parallelism_config": refused("is not supported: a run is parallel over its data only", unless=None),
    "local_rank": refused("is set by the launcher", unless=-1),
    # The model.
    "model_init_kwargs": refused(instead="vlm"),
    "trust_remote_code": refused("is set by GeoClick, which runs no code of a checkpoint", unless=False),
    "router_aux_loss_coef": refused("is set by GeoClick: routers of experts are not trained", unless=None),
    **each("do_train do_eval do_predict", refused(unless=False)),
}
"""Options that are the same in both commands."""

EVALUATION: dict[str, Rule] = {
    "save_strategy": works(values={"best": Condition(needs="evaluate_every")}),
    "eval_on_start": works(needs="evaluate_every"),
    "eval_delay": works(needs="evaluate_every"),
    "per_device_eval_batch_size": differs(
        "is the number of answers that a process generates at once in an evaluation; the default is 16",
        needs="evaluate_every",
    ),
    "eval_strategy": refused(instead="evaluate_every", unless="no"),
    "load_best_model_at_end": refused(instead="evaluate_every", unless=False),
    **each(
        "eval_steps metric_for_best_model greater_is_better", refused(instead="evaluate_every", unless=None)
    ),
}
"""Options of the evaluation during training."""

SFT: dict[str, Rule] = {
    "per_device_train_batch_size": differs(
        "counts rows; with packing_tokens a batch is one pack, and this is 1"
    ),
    "label_smoothing_factor": works(without="loss_type=dft"),
    "neftune_noise_alpha": differs("adds noise by the length of the row, or with packing_tokens of the pack"),
    "loss_type": works(values={"dft": Condition(without="loss_average=samples")}),
    "activation_offloading": differs("needs a GPU"),
    "torch_compile": works(),
    **each("torch_compile_backend torch_compile_mode", works(needs="torch_compile")),
    **each("activation_checkpointing gradient_checkpointing", differs("checkpoints the trained towers only")),
    "data_seed": works(),
    "pad_to_multiple_of": works(without="packing_tokens"),
    "train_sampling_strategy": differs(
        "orders rows: random, sequential or group_by_length; packing_tokens, augment and other_format_share have an "
        "order of their own",
        values={"batch_rebalance": Condition(reason="depends on the number of processes")},
    ),
    "shuffle_dataset": refused(
        "has no effect: every epoch has a random order", instead="train_sampling_strategy", unless=False
    ),
    **EVALUATION,
    # Rows.
    "max_length": refused("is set by GeoClick: no row is cut", instead="max_pixels", unless=None),
    "truncation_mode": refused("has no effect: no row is cut", unless="keep_start"),
    "packing": refused(instead="packing_tokens", unless=False),
    "padding_free": refused(instead="packing_tokens", unless=False),
    "packing_strategy": refused(
        "has no effect: GeoClick packs rows itself", instead="packing_tokens", unless="bfd"
    ),
    "eval_packing": refused(NO_EVALUATION_LOSS, unless=None),
    "completion_only_loss": refused("is set by GeoClick: the loss is on the answer", unless=True),
    "assistant_only_loss": refused("is set by GeoClick: the loss is on the answer", unless=False),
    "dataset_text_field": refused(ROWS_ARE_TOKENS, unless="text"),
    "dataset_num_proc": refused(ROWS_ARE_TOKENS, unless=None),
    "dataset_kwargs": refused(ROWS_ARE_TOKENS, unless=None),
    **each(
        "pad_token eos_token chat_template_path",
        refused("is set by GeoClick: it is that of the checkpoint", unless=None),
    ),
}
"""Options of `geoclick train sft`."""

VLLM = "use_vllm"
GRPO: dict[str, Rule] = {
    "per_device_train_batch_size": differs("counts answers, not samples"),
    **each("activation_checkpointing gradient_checkpointing", works()),
    "torch_compile": refused("is not supported: answers differ in length from step to step", unless=False),
    **each(
        "torch_compile_backend torch_compile_mode", refused("is not supported, as torch_compile", unless=None)
    ),
    **each("num_generations max_completion_length generation_batch_size steps_per_generation", works()),
    **each("temperature top_p top_k min_p generation_kwargs repetition_penalty", works()),
    **each("beta num_iterations epsilon epsilon_high delta loss_type scale_rewards", works()),
    **each("importance_sampling_level mask_truncated_completions top_entropy_quantile", works()),
    **each("entropy_coef use_adaptive_entropy off_policy_mask_threshold", works()),
    **each("multi_objective_aggregation cast_lm_head_to_fp32 disable_dropout shuffle_dataset", works()),
    **each("sapo_temperature_neg sapo_temperature_pos", works(needs="loss_type=sapo")),
    **each("vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg", works(needs="loss_type=vespo")),
    **each(
        "entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target",
        works(needs="use_adaptive_entropy"),
    ),
    "use_bias_correction_kl": works(needs="beta"),
    "reward_weights": refused(
        "is set by GeoClick", instead="iou_weight, format_weight, economy_weight and no_target_weight"
    ),
    "log_completions": works(),
    **each("num_completions_to_print log_unique_prompts", works(needs="log_completions")),
    "log_completions_hub_repo": refused("is not supported: completions stay on this machine", unless=None),
    "log_multimodal": refused("is not supported: prompts are tokens here"),
    "use_vllm": differs(
        "samples answers with vLLM, to which images are sent resized by the adapter's pixel limits; needs a GPU. "
        "Evaluations run in the trainer",
        package="vllm",
    ),
    **each(
        "vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex", works(needs=VLLM)
    ),
    **each("vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout", works(needs=VLLM)),
    **each("vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length", works(needs=VLLM)),
    **each("vllm_tensor_parallel_size vllm_importance_sampling_correction", works(needs=VLLM)),
    **each("vllm_importance_sampling_mode vllm_importance_sampling_clip_max", works(needs=VLLM)),
    **each("vllm_importance_sampling_clip_min vllm_importance_sampling_cap", works(needs=VLLM)),
    "cache_implementation": refused("is set by GeoClick: answers to one prompt share its cache", unless=None),
    "use_transformers_continuous_batching": refused(
        "is not supported: answers to one prompt share its cache", unless=False
    ),
    "use_transformers_paged": refused(
        "is not supported: answers to one prompt share its cache", unless=False
    ),
    "transformers_continuous_batching_config": refused(
        "is not supported: answers to one prompt share its cache", unless=None
    ),
    "ds3_gather_for_generation": refused("has no effect: GRPO does not run under ZeRO-3", unless=True),
    "sync_ref_model": refused(
        "is not supported: the reference of beta is the adapter at the start", unless=False
    ),
    "ref_model_mixup_alpha": refused("has no effect without sync_ref_model, which is not supported"),
    "ref_model_sync_steps": refused("has no effect without sync_ref_model, which is not supported"),
    "max_tool_calling_iterations": refused(NO_TOOLS, unless=None),
    "chat_template_kwargs": refused(
        "is not supported: prompts are those of `geoclick train sft`", unless=None
    ),
    "label_smoothing_factor": refused("has no effect: GRPO has no labels", unless=0),
    "neftune_noise_alpha": refused(
        "is not supported: noise would change the policy's probabilities", unless=None
    ),
    "data_seed": refused(
        "has no effect: the order of samples follows from seed", instead="seed", unless=None
    ),
    "pad_to_multiple_of": refused("is not supported: prompts are shared, not padded", unless="auto"),
    "train_sampling_strategy": refused(
        "has no effect: samples are in random order, unless shuffle_dataset is false",
        instead="shuffle_dataset",
        unless="random",
    ),
    # The evaluation during training.
    **EVALUATION,
    "num_generations_eval": refused("has no effect: an evaluation takes the most likely answer", unless=None),
}
"""Options of `geoclick train grpo`."""

RULES = {"SFTConfig": BOTH | SFT, "GRPOConfig": BOTH | GRPO}
"""The rule of each option, by TRL's class."""
