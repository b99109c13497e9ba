"""A language model of this machine that writes short texts: greedily, through its own chat template.

A folder or hub id of `transformers` with safetensors, or `smol`, the language model of that embedded backbone (that of `gemma` was not
trained to follow instructions).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from lalm.errors import ModelError
from lalm.models import parts
from lalm.models.smol import smol_folder

_EMBEDDED, _ITS_LICENCE = "smol", "Apache-2.0"
_BATCH = 16


class LocalModel:
    """Texts for prompts, each as if it were the first thing said to the model; `licence` is what its card states."""

    def __init__(self, source: str) -> None:
        """Raises ModelError if the weights are not there, are no safetensors or answer to no instructions."""
        import torch
        from transformers import AutoModelForCausalLM

        own = source == _EMBEDDED
        part = parts.find(str(smol_folder() / "language_model") if own else source)
        self.source = source
        self.licence = _ITS_LICENCE if own else parts.licence(part)
        self._tokenizer: Any = parts.load_tokenizer(part)
        if not getattr(self._tokenizer, "chat_template", None):
            raise ModelError(
                f"{source}: its tokenizer has no chat template, so it was not trained to follow instructions. "
                "Choose an instruction-tuned model."
            )
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model: Any = parts.load_weights(AutoModelForCausalLM, part)
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, prompts: Sequence[str], max_new_tokens: int, what: str = "") -> list[str]:
        """What the model says to each prompt; `what` opens the line on standard error that says how far it is.

        Raises ModelError for a prompt that leaves no room for `max_new_tokens`.
        """
        written = [self._rendered(prompt) for prompt in prompts]
        order = sorted(range(len(written)), key=lambda index: len(written[index]))
        found = dict.fromkeys(order, "")
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            found.update(zip(batch, self._batch([written[index] for index in batch], max_new_tokens), strict=True))
            if what:
                done = start + len(batch)
                print(f"\r[{what}] {done}/{len(order)}", end="\n" if done == len(order) else "", file=sys.stderr)
        return [found[index] for index in range(len(written))]

    def _rendered(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _batch(self, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        import torch

        rows = self._tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=False).to(
            self._model.device
        )
        length = rows["input_ids"].shape[1]
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None and length + max_new_tokens > room:
            raise ModelError(
                f"{self.source}: a prompt of {length} tokens leaves no room; the model has {room} positions."
            )
        with torch.inference_mode():
            ids = self._model.generate(
                input_ids=rows["input_ids"],
                attention_mask=rows["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        return [text.strip() for text in self._tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)]
