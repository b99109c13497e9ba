"""`lalm bench SCENARIO --dry-run`: what a scenario would compute and hold, without weights, data or a GPU.

The model is built on torch's `meta` device, where tensors have shapes and no values: its forward and backward pass is run
there, and operations and what is kept for the way back are counted.
"""

from __future__ import annotations

from typing import Any

from lalm.bench import flops
from lalm.bench.scenarios import Scenario
from lalm.errors import UserError

FRAMES_PER_S = 25  # vectors a second of Qwen2-Audio
RANK = 16
_ON_THE_CARD = 3.5e9  # bytes: CUDA's own, the encoder at work, logits and fragments, as a rough allowance


def dry_run(scenario: Scenario) -> dict[str, Any]:
    """Sizes, operations and memory of one training step. Raises UserError for a scenario whose weights are not random."""
    if scenario.backbone != "qwen2_audio":
        raise UserError(f"--dry-run: '{scenario.name}' has real weights; it is for mid and qwen2_audio_7b.")
    import torch

    from lalm.bench.random_weights import qwen2_audio
    from lalm.bench.sizes import sizes_of

    model = qwen2_audio(scenario.size, "meta", instruction_first=scenario.instruction_first)
    _adapters(model)
    sizes = sizes_of(model)
    length = _length(scenario)
    shared = scenario.prompt_tokens if scenario.instruction_first else 0
    # rows of a like number of positions: what they have in common is dealt out among them
    kept, counted = _step(model.module, scenario, length - shared + -(-shared // scenario.batch_size))
    parameters = list(model.module.parameters())
    weights = sum(one.numel() * one.element_size() for one in parameters)
    adapters = sum(one.numel() for one in parameters if one.requires_grad)
    load = flops.Load([], [length - shared] * scenario.batch_size, shared, scenario.batch_size * scenario.answer_tokens)
    useful = scenario.batch_size * length
    in_bf16 = model.module.dtype == torch.bfloat16
    return {
        "scenario": scenario.name,
        "weights": sum(one.numel() for one in parameters) - adapters,
        "adapter_weights": adapters,
        "positions_a_row": length,
        "useful_tokens_a_step": useful,
        "computed_tokens_a_step": shared + scenario.batch_size * (length - shared),
        "flops_a_useful_token": 4.0 * sizes.llm_weights,
        "flops_a_step": {"counted": counted, "bound": flops.training(sizes, load, False)},
        "seconds_a_step_at_peak": {
            card: useful * 4.0 * sizes.llm_weights / peak for card, peak in flops.BF16_PEAK.items() if in_bf16
        },
        "memory_gb": {
            "weights": weights / 1e9,
            "adapter_gradients_and_optimizer": 3 * 4 * adapters / 1e9,
            "kept_for_the_way_back": kept / 1e9,
            "total": (weights + 12 * adapters + kept + _ON_THE_CARD) / 1e9,
        },
        "command": f"lalm bench {scenario.name}",
    }


def as_text(found: dict[str, Any]) -> str:
    """What `dry_run` found, in words."""
    memory, flops_a_step = found["memory_gb"], found["flops_a_step"]
    lines = [
        f"{found['scenario']}: {found['weights'] / 1e9:.2f} billion weights, adapters of {found['adapter_weights'] / 1e6:.1f} million",
        f"  a step: {found['useful_tokens_a_step']} useful tokens in rows of {found['positions_a_row']} positions, "
        f"{found['computed_tokens_a_step']} of them computed",
        f"  operations of a step: {flops_a_step['counted'] / 1e12:.1f} T counted on shapes, {flops_a_step['bound'] / 1e12:.1f} T "
        f"at the least; {found['flops_a_useful_token'] / 1e9:.1f} G a useful token (4 a weight)",
        f"  memory: about {memory['total']:.1f} GB ({memory['weights']:.1f} weights, "
        f"{memory['adapter_gradients_and_optimizer']:.1f} gradients and AdamW, {memory['kept_for_the_way_back']:.1f} for the way back)",
    ]
    lines += [
        f"  useful tokens alone at the peak of {card}: {seconds:.2f} s a step"
        for card, seconds in found["seconds_a_step_at_peak"].items()
    ]
    return "\n".join([*lines, f"  to run it: {found['command']}"])


def _adapters(model: Any) -> None:
    """LoRA as the benchmark attaches it."""
    from lalm.tuners import lora

    lora.attach(model, ["llm.attention", "llm.mlp"], lora.Config(r=RANK))


def _length(scenario: Scenario) -> int:
    """Positions of a row with a clip of middle length; some tokens more for the template's marks are left out."""
    clip_s = sum(scenario.clip_s) / 2
    return scenario.prompt_tokens + round(clip_s * FRAMES_PER_S) + scenario.answer_tokens


def _step(module: Any, scenario: Scenario, length: int) -> tuple[int, float]:
    """Bytes that are kept for the way back, and operations, of a forward and a backward pass of the language model.

    Attention weights [.., L, L] are not counted: the kernels of a card that this is for compute them again.
    """
    import torch

    from lalm.bench.counting import Counting

    weights = {one.untyped_storage()._cdata for one in module.parameters()}
    kept: dict[int, int] = {}
    held: list[Any] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and tuple(tensor.shape[-2:]) != (length, length):
            kept[storage._cdata] = storage.nbytes()
            held.append(storage)
        return tensor

    embeddings = module.get_input_embeddings()
    ids = torch.zeros(scenario.batch_size, length, dtype=torch.long, device="meta")
    states = slice(-scenario.answer_tokens - 1, -1)
    handle = module.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0][:, states],))
    try:
        with (
            Counting() as counter,
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            module.train()
            output = module.get_submodule("model.language_model")(
                inputs_embeds=embeddings(ids),
                attention_mask={"full_attention": None},  # no padding, and none to be looked for in values
                use_cache=False,
            )
            logits = module.get_output_embeddings()(output.last_hidden_state)
            logits.float().sum().backward()
    finally:
        handle.remove()
    return sum(kept.values()), counter.total
