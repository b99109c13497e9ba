"""Composed models in the words of `transformers`: `import lalm.hf` makes its Auto classes know them.

    import lalm.hf
    from transformers import AutoModelForMultimodalLM, AutoProcessor

    model, processor = AutoModelForMultimodalLM.from_pretrained(folder), AutoProcessor.from_pretrained(folder)

No code is fetched or run from the folder: it is this package that knows the model type `lalm`.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor

from lalm.hf.configuration import LalmConfig
from lalm.hf.modeling import LalmForConditionalGeneration
from lalm.hf.processing import LalmProcessor

__all__ = ["LalmConfig", "LalmForConditionalGeneration", "LalmProcessor"]

AutoConfig.register(LalmConfig.model_type, LalmConfig, exist_ok=True)
AutoProcessor.register(LalmConfig, LalmProcessor, exist_ok=True)
for _auto in (AutoModelForMultimodalLM, AutoModelForCausalLM):
    _auto.register(LalmConfig, LalmForConditionalGeneration, exist_ok=True)
