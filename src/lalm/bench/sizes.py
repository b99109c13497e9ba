"""What the arithmetic of a scenario is made of, read from a model and its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import soundfile

from lalm.bench import flops
from lalm.bench.scenarios import Scenario
from lalm.records import Example


def flops_of(model: Any, rows: Sequence[Example], scenario: Scenario, mode: str) -> dict[str, float]:
    """Operations of one epoch (or of one batch of answers): of hearing and of the rest, plain and at the least."""
    sizes = sizes_of(model)
    chosen = [rows[start : start + scenario.batch_size] for start in range(0, len(rows), scenario.batch_size)]
    if mode == "answer":
        chosen = chosen[:1]
    total = dict.fromkeys(("hear_plain", "hear", "rest_plain", "rest"), 0.0)
    for batch in chosen:
        load = _load_of(model, batch, with_answers=mode != "answer")
        total["hear_plain"] += flops.encoder(sizes, [flops.WINDOW_FRAMES] * len(batch))
        total["hear"] += flops.encoder(sizes, load.frames)
        if mode == "answer":
            for name, plain in (("rest_plain", True), ("rest", False)):
                total[name] += flops.answering(sizes, load, scenario.answer_tokens, plain)
            continue
        total["rest"] += flops.training(sizes, load, plain=False)
        for portion in scenario.in_plain_portions(batch):
            total["rest_plain"] += flops.training(sizes, _load_of(model, portion, with_answers=True), plain=True)
    return total


def useful_tokens(model: Any, rows: Sequence[Example]) -> int:
    """Positions that rows hold without padding: prompt, vectors of the recording and answer, of each row."""
    load = _load_of(model, rows, with_answers=True)
    return sum(load.shared + own for own in load.own)


def computed_tokens(model: Any, rows: Sequence[Example], scenario: Scenario) -> int:
    """Positions that lalm takes through the language model in an epoch: what rows of a step begin with counts once."""
    steps = [rows[start : start + scenario.batch_size] for start in range(0, len(rows), scenario.batch_size)]
    loads = [_load_of(model, step, with_answers=True) for step in steps]
    return sum(load.shared + sum(load.own) for load in loads)


def _load_of(model: Any, batch: Sequence[Example], with_answers: bool) -> flops.Load:
    shared = len(model.batch(batch).prefix)
    counted = 0 if hasattr(model.module, "llm") else shared  # composed models' rows are measured without it
    frames = [math.ceil(_num_samples(example) / 320) for example in batch]
    answers = sum(_answer_length(model, example) for example in batch)
    left_out = [counted + (0 if with_answers else _answer_length(model, example)) for example in batch]
    own = [model.num_tokens(example) - without for example, without in zip(batch, left_out, strict=True)]
    return flops.Load(frames, own, shared, answers)


def _answer_length(model: Any, example: Example) -> int:
    return len(model.row(example).answer)


def _num_samples(example: Example) -> int:
    return int(soundfile.info(str(example.audio)).frames)


def sizes_of(model: Any) -> flops.Sizes:
    """Numbers of weights and widths; adapters that are attached count apart."""
    composed = hasattr(model.module, "llm")
    encoder = model.module.audio_encoder.encoder if composed else model.module.model.audio_tower
    llm = model.module.llm.model if composed else model.module.model.language_model
    config = llm.config
    adapter = sum(p.numel() for name, p in llm.named_parameters() if "lora_" in name)
    return flops.Sizes(
        encoder_weights=sum(p.numel() for p in encoder.layers.parameters()),
        encoder_width=encoder.config.d_model,
        encoder_layers=len(encoder.layers),
        llm_weights=sum(p.numel() for p in llm.layers.parameters()) - adapter,
        llm_width=config.num_attention_heads
        * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads),
        llm_layers=config.num_hidden_layers,
        model_width=config.hidden_size,
        vocabulary=config.vocab_size,
        adapter=adapter,
    )
