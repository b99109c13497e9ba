"""Composed models as folders that the Auto classes load after `import lalm.hf`.

The merged folder is whole. The adapter folder has the model that it belongs to in `base/`: whole, or, where encoder and
language model are on the hub or in the embedded model, as their names and revisions with the connector's weights.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lalm import plugins
from lalm.backbones._composed_model import ComposedModel
from lalm.config import Recipe
from lalm.export.folder import copy_adapter, on_accelerator
from lalm.records import Example

if TYPE_CHECKING:
    from lalm.hf import LalmConfig, LalmForConditionalGeneration

BASE = "base"


class ComposedFormat:
    """`Format` of composed models."""

    def __init__(self, model: ComposedModel, recipe: Recipe) -> None:
        self._identity, self._recipe = model.identity, recipe

    def as_given(self, model: Any, row: Example) -> Example:
        """Words in the connector's own tongue."""
        return row if row.audio is not None else replace(row, text=model.as_given(row))

    def write_merged(self, model: Any, folder: Path) -> None:
        """Weights, configuration, processor, and the decoder where the connector uses it."""
        self._write_whole(model, folder)

    def write_adapter(self, base: Any, adapter: Path, folder: Path) -> None:
        """The adapter with its processor, and `base/`."""
        changes = {
            "base_model_name_or_path": BASE,
            "auto_mapping": {"base_model_class": "LalmForConditionalGeneration", "parent_library": "lalm.hf"},
        }
        copy_adapter(adapter, folder, changes)
        self._processor(base).save_pretrained(folder)
        places = places_of(self._identity)
        if places is None:
            self._write_whole(base, folder / BASE)
        else:
            self._write_reference(base, folder / BASE, places)

    def _write_whole(self, model: Any, folder: Path) -> None:
        wrapped = self._wrapped(model, self._config(model, folder, None))
        wrapped.save_pretrained(folder)
        self._processor(model).save_pretrained(folder)
        if wrapped.config.uses_decoder:
            model.module.connector.save_speech(folder / "speech")

    def _write_reference(self, model: Any, folder: Path, places: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        from lalm.hf.modeling import CONNECTOR_FILE

        folder.mkdir()
        wrapped = self._wrapped(model, self._config(model, folder, places))
        wrapped.config.save_pretrained(folder)
        wrapped.generation_config.save_pretrained(folder)
        self._processor(model).save_pretrained(folder)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in wrapped.connector.state_dict().items()}
        if state:
            save_file(state, folder / CONNECTOR_FILE, metadata={"format": "pt"})

    def _config(self, model: Any, folder: Path, places: dict[str, Any] | None) -> LalmConfig:
        from lalm.hf import LalmConfig

        module = model.module
        name, options = self._identity["connector"], dict(self._identity.get("connector_options", {}))
        files = _copy_files(name, options, folder)
        return LalmConfig(
            audio_config=module.audio_encoder.encoder.config.to_dict(),
            text_config=module.llm.config.to_dict(),
            connector={"name": name, "options": options, "files": files},
            audio_token_id=self._processor(model).audio_token_id,
            parts=places,
            uses_decoder=hasattr(module.connector, "bind_speech"),
            dtype=str(module.llm.dtype).removeprefix("torch."),
        )

    def _wrapped(self, model: Any, config: LalmConfig) -> LalmForConditionalGeneration:
        """The model's own modules as a model of transformers, searching answers as the run does."""
        from transformers import GenerationConfig

        from lalm.hf import LalmForConditionalGeneration

        module, cfg = model.module, self._recipe.evaluate
        wrapped = LalmForConditionalGeneration(config, (module.audio_encoder, module.connector, module.llm))
        end = int(model.tokenizer.eos_token_id)
        wrapped.generation_config = GenerationConfig(
            eos_token_id=end,
            pad_token_id=end,
            max_new_tokens=cfg.max_new_tokens,
            num_beams=cfg.num_beams,
            do_sample=False,
        )
        return wrapped

    def _processor(self, model: Any) -> Any:
        from transformers import AddedToken

        from lalm.hf.processing import AUDIO_TOKEN, LalmProcessor

        tokenizer = copy.deepcopy(model.tokenizer)
        tokenizer.add_tokens(AddedToken(AUDIO_TOKEN, special=True, normalized=False), special_tokens=True)
        ears = model.module.audio_encoder
        return LalmProcessor(ears.feature_extractor, tokenizer, listening=asdict(ears.listening))

    def reopen(self, folder: Path, merged: bool) -> Callable[[Example], str]:
        """Through the Auto classes and, for an adapter, peft."""
        from transformers import AutoModelForMultimodalLM, AutoProcessor

        import lalm.hf  # noqa: F401  # makes the Auto classes know the folder
        from lalm.models.parts import quiet_libraries

        with quiet_libraries():
            processor = AutoProcessor.from_pretrained(folder)
            model = AutoModelForMultimodalLM.from_pretrained(folder if merged else folder / BASE)
            if not merged:
                from peft import PeftModel

                model = PeftModel.from_pretrained(model, str(folder))
        model = on_accelerator(model.eval())

        def answer(row: Example) -> str:
            asked = (
                {"type": "audio", "audio": str(row.audio)}
                if row.audio is not None
                else {"type": "text", "text": row.text}
            )
            turns = [{"role": "system", "content": row.instruction}, {"role": "user", "content": [asked]}]
            inputs = processor.apply_chat_template(turns, tokenize=True).to(model.device)
            with quiet_libraries():
                tokens = model.generate(**inputs)
            return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()

        return answer

    def usage(self, merged: bool) -> str:
        """For the card."""
        loading = (
            'model = AutoModelForMultimodalLM.from_pretrained("FOLDER")'
            if merged
            else 'model = AutoModelForMultimodalLM.from_pretrained("FOLDER/base")\n'
            'model = PeftModel.from_pretrained(model, "FOLDER")'
        )
        return (
            "import lalm.hf  # makes the Auto classes know the folder; no code is fetched\n"
            + ("" if merged else "from peft import PeftModel\n")
            + "from transformers import AutoModelForMultimodalLM, AutoProcessor\n\n"
            + 'processor = AutoProcessor.from_pretrained("FOLDER")\n'
            + loading
            + '\nturns = [{"role": "system", "content": INSTRUCTION}, '
            + '{"role": "user", "content": [{"type": "audio", "audio": "order.wav"}]}]\n'
            + "inputs = processor.apply_chat_template(turns, tokenize=True)\n"
            + "tokens = model.generate(**inputs)\n"
            + 'print(processor.decode(tokens[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))'
        )


def places_of(identity: dict[str, Any]) -> dict[str, Any] | None:
    """Where encoder and language model can be had by anybody; None if one of them is a folder of this machine."""
    from lalm.hf.modeling import EMBEDDED

    name = identity.get("backbone")
    if name in EMBEDDED:
        return {"encoder": {name: "speech"}, "language_model": {name: "language_model"}}
    found = {key: identity.get(key) for key in ("encoder", "language_model")}
    if all(isinstance(place, dict) and place.get("revision") for place in found.values()):
        return {key: {name: place[name] for name in ("source", "revision", "weights")} for key, place in found.items()}  # type: ignore[index]
    return None


def _copy_files(name: str, options: dict[str, Any], folder: Path) -> list[str]:
    """Copy files that a connector's options name into the folder, and name them there; the options that were changed."""
    module = plugins.load("connectors", name)
    cfg = plugins.configure(module, options, "backbone.connector")
    changed = []
    for key in type(cfg).model_fields:
        path = getattr(cfg, key)
        if isinstance(path, Path):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.name)
            options[key] = path.name
            changed.append(key)
    return changed
