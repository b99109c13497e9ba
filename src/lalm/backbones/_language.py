"""What a composed model asks of a causal language model, and whether one can give it.

Rows are given as embeddings, padded on the right, after a beginning that they share; logits are computed at chosen
positions alone. Where attention does not see everything before a position (a sliding window), rows are given whole and
padded on the left when an answer is searched, as the window counts padding too.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from lalm.errors import ModelError
from lalm.models.parts import Part

_LAYERS = {"full_attention", "sliding_attention"}


def check_config(part: Part, config: Any) -> None:
    """Raises ModelError if a part is no causal language model that takes embeddings in padded rows."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not known and not part.remote_code:
        raise ModelError(f"{part.source}: a model of type '{part.model_type}' is no causal language model.")
    if config.get_text_config() is not config:
        raise ModelError(
            f"{part.source}: a model of type '{part.model_type}' has parts beyond its language model. Choose the backbone "
            f"of that name if there is one, or save its language model alone and name that folder."
        )
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise ModelError(f"{part.source}: a model of type '{part.model_type}' is no decoder alone.")
    others = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYERS)
    if others:
        raise ModelError(
            f"{part.source}: its layers of type {', '.join(others)} carry a state over padding, so rows of a batch would "
            f"change one another. Choose a model with attention in every layer."
        )


def sees_everything(config: Any) -> bool:
    """Whether attention sees all positions before it in every layer."""
    types = getattr(config, "layer_types", None)
    if types:
        return set(types) == {"full_attention"}
    return not (getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True))


def role(llm: Any, name: str, part: Any) -> str:
    """What a module with weights of its own is for: `embeddings`, `norms`, `attention` or `mlp`."""
    own = name.rsplit(".", 1)[-1]
    ends = (llm.get_input_embeddings(), llm.get_output_embeddings())
    if isinstance(part, nn.Embedding) or any(part is one for end in ends for one in end.modules()):
        return "embeddings"
    if "norm" in own or own.startswith("ln_") or "norm" in type(part).__name__.lower():
        return "norms"
    if any(re.fullmatch(r"(self_)?att(ention|n)", piece) for piece in name.split(".")):
        return "attention"
    return "mlp"


def logits(llm: Any, states: Tensor) -> Tensor:
    """Logits [..., vocabulary] from last hidden states, with the scales that some families put behind the output layer."""
    found = llm.get_output_embeddings()(states)
    if scaling := getattr(llm.config, "logits_scaling", None):
        found = found / scaling
    if scale := getattr(llm.config, "logit_scale", None):
        found = found * scale
    if cap := getattr(llm.config, "final_logit_softcapping", None):
        found = torch.tanh(found / cap) * cap
    return found


@torch.inference_mode()
def check_answers(module: Any) -> None:
    """Raises ModelError if a composed module's way through the language model is not the model's own.

    Two short rows of different lengths, once as a batch of embeddings and once each as tokens.
    """
    llm = module.llm
    vocabulary = llm.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(1, 8, device=module.device) * 997) % vocabulary
    start, lengths = (3, (7, 5)) if sees_everything(llm.config) else (0, (7, 5))
    mask = (
        torch.arange(7 - start, device=module.device)[None]
        < torch.tensor(lengths, device=module.device)[:, None] - start
    )
    try:
        rows = llm.get_input_embeddings()(ids[start:])[None].expand(2, -1, -1)
        cache = module.prefix_cache(ids[:start].tolist(), 2)
        own = logits(llm, module.hidden(rows, mask, cache, start))
        ours = torch.stack([own[row, length - start - 1] for row, length in enumerate(lengths)]).float()
        plain = torch.stack([llm(input_ids=ids[None, :length]).logits[0, -1] for length in lengths]).float()
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(f"A language model of type '{llm.config.model_type}' cannot be used here ({what}).") from error
    bound = 1e-3 if plain.dtype == llm.dtype else 5e-2
    if not torch.allclose(ours, plain, rtol=0, atol=bound * float(plain.abs().max())):
        raise ModelError(
            f"A language model of type '{llm.config.model_type}' computes its logits in a way of its own: from embeddings "
            f"of padded rows they differ by {float((ours - plain).abs().max()):.3g}. It cannot be used here."
        )
