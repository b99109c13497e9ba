"""Which parts of a `transformers` class belong to which group that a tuner can name."""

from __future__ import annotations

from typing import Any

from torch import nn

from lalm.backbones._family import Family

FIXED = (
    "embed_positions",
    "audio_bos_eos_token",
)  # the class keeps the first from learning and does not use the second


def groups_of(module: Any, family: Family) -> dict[str, tuple[str, ...]]:
    """Sub-modules by group. A connector that sits within the encoder is not part of the encoder's group."""
    found: dict[str, list[str]] = {"audio_encoder": [], "connector": list(family.connector)}
    for name, part in module.get_submodule(family.audio_encoder).named_children():
        full = f"{family.audio_encoder}.{name}"
        if full not in family.connector and name not in FIXED and any(True for _ in part.parameters()):
            found["audio_encoder"].append(full)
    for group in ("llm.attention", "llm.mlp", "llm.embeddings", "llm.norms"):
        found[group] = []
    for name, part in module.get_submodule(family.language_model).named_modules():
        full = f"{family.language_model}.{name}"
        if isinstance(part, nn.Linear):
            found["llm.attention" if ".self_attn." in full else "llm.mlp"].append(full)
        elif isinstance(part, nn.Embedding):
            found["llm.embeddings"].append(full)
        elif "norm" in name.rsplit(".", 1)[-1]:
            found["llm.norms"].append(full)
    head = next(name for name, part in module.named_modules() if part is module.get_output_embeddings())
    found["llm.embeddings"].append(head)
    return {group: tuple(names) for group, names in found.items()}
