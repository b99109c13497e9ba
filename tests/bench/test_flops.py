"""The arithmetic against what PyTorch counts while the real classes run."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lalm.bench import flops

LENGTHS, SHARED, NEW = [14, 9, 11], 20, 5


@pytest.fixture(scope="module")
def llm():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).requires_grad_(False)


def sizes_of(llm) -> flops.Sizes:
    weights = sum(one.weight.numel() for one in llm.model.layers.modules() if isinstance(one, torch.nn.Linear))
    return flops.Sizes(0, 0, 0, weights, 32, 2, 32, 300, 0)


def counted(llm, embeddings: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        llm(inputs_embeds=embeddings).logits.sum().backward()
    return counter.get_total_flops()


def test_a_plain_step_costs_what_pytorch_counts(llm):
    rows, length = len(LENGTHS), SHARED + max(LENGTHS)
    embeddings = torch.randn(rows, length, 32, requires_grad=True)
    load = flops.Load([], LENGTHS, SHARED, sum(LENGTHS))
    # eager attention computes all pairs of positions; the bound counts those that are seen
    all_pairs = 3 * 4.0 * 2 * 32 * rows * length**2 / 2
    assert counted(llm, embeddings) == pytest.approx(flops.training(sizes_of(llm), load, True) + all_pairs, rel=1e-6)


def test_the_least_step_costs_the_shared_positions_once(llm):
    sizes = sizes_of(llm)
    one = flops.training(sizes, flops.Load([], [10], 0, 10), False)
    two = flops.training(sizes, flops.Load([], [10, 10], 0, 20), False)
    assert two == pytest.approx(2 * one)
    alone = flops.training(sizes, flops.Load([], [10], SHARED, 10), False)
    both = flops.training(sizes, flops.Load([], [10, 10], SHARED, 20), False)
    each = 10 * 2 * 2.0 * sizes.llm_weights + 3 * 4.0 * 2 * 32 * (10 * SHARED + 50) + 10 * 2 * 2.0 * 32 * 300
    assert both - alone == pytest.approx(each)


def test_answering_costs_what_pytorch_counts(llm):
    rows, length = len(LENGTHS), SHARED + max(LENGTHS)
    embeddings = torch.randn(rows, length, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        llm.model(inputs_embeds=embeddings)
    sizes = sizes_of(llm)
    load = flops.Load([], LENGTHS, SHARED, 0)
    reading = flops.answering(sizes, load, 0, True)
    assert counter.get_total_flops() == pytest.approx(reading + 4.0 * 2 * 32 * rows * length**2 / 2, rel=1e-6)
    per_token = rows * (2.0 * sizes.llm_weights + 2.0 * 32 * 300)
    seen = 4.0 * 2 * 32 * rows * sum(length + step + 0.5 for step in range(NEW))
    assert flops.answering(sizes, load, NEW, True) == pytest.approx(reading + NEW * per_token + seen)


def test_an_encoder_costs_what_pytorch_counts():
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

    config = WhisperConfig(d_model=32, encoder_attention_heads=4, encoder_ffn_dim=64)
    config._attn_implementation = "eager"
    layer = WhisperEncoderLayer(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.randn(1, 50, 32), None)
    weights = sum(one.weight.numel() for one in layer.modules() if isinstance(one, torch.nn.Linear))
    assert counter.get_total_flops() == pytest.approx(
        flops.encoder(flops.Sizes(weights, 32, 1, 0, 0, 0, 0, 0, 0), [50]), rel=1e-6
    )
