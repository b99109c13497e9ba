"""A composed model as a model of `transformers`: the same modules under the same names, so that adapters fit both.

Shapes: B rows, L tokens, L' positions of the language model (a recording is one token and many positions), D its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GenerationMixin, PreTrainedModel

from lalm.backbones import _assemble, _encoders
from lalm.config import PluginChoice
from lalm.errors import ModelError
from lalm.hf.configuration import LalmConfig
from lalm.models import gemma, parts, smol

IGNORE = -100
SPEECH = "speech"  # the folder of a whole Whisper whose decoder the connector uses
CONNECTOR_FILE = "connector.safetensors"
EMBEDDED = {"smol": smol.smol_folder, "gemma": gemma.gemma_folder}
_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "*.gz")


class LalmForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Audio encoder, connector, language model. Read from a folder that `lalm export` wrote."""

    config_class = LalmConfig
    config: Any
    main_input_name = "input_ids"
    input_modalities = ["audio", "text"]  # noqa: RUF012  # as transformers has it
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _keep_in_fp32_modules_strict = ["connector"]  # noqa: RUF012  # as transformers has it

    def __init__(self, config: LalmConfig, modules: tuple[Any, Any, Any] | None = None) -> None:
        """`modules`: encoder with its ears, connector and language model, if they are there already."""
        super().__init__(config)
        self.audio_encoder, self.connector, self.llm = modules or _empty(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, config: Any = None, **options: Any) -> Any:
        """The model of a folder or a hub repository; `options` as for any model of `transformers`.

        Raises ModelError for a folder whose parts are elsewhere and not what they were, or are not to be had.
        """
        folder = _local(str(pretrained_model_name_or_path), options)
        if not isinstance(config, LalmConfig):
            config = LalmConfig.from_pretrained(folder)
        _find_files_of(config, folder)
        if config.parts:
            model = cls(config, _from_parts(config, folder, options))
            model.generation_config = GenerationConfig.from_pretrained(folder)
            model.eval()
            loaded: Any = model
        else:
            loaded = super().from_pretrained(folder, *args, config=config, **{**options, "use_safetensors": True})
            model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._bind(folder)
        return loaded

    def _bind(self, folder: Path) -> None:
        """Give the connector the tokenizer, the embeddings and, if it lets Whisper write, the whole of Whisper."""
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.connector.bind(tokenizer, self.llm.get_input_embeddings())
        if self.config.uses_decoder:
            from transformers import WhisperForConditionalGeneration, WhisperTokenizer

            own = folder / SPEECH
            part = parts.find(str(own)) if own.is_dir() else find_part(self.config.parts["encoder"])
            whisper = parts.load_weights(WhisperForConditionalGeneration, part)
            self.connector.bind_speech(whisper, WhisperTokenizer.from_pretrained(part.folder, local_files_only=True))

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing is drawn at random: all weights are in the folder."""

    def get_input_embeddings(self) -> nn.Module:
        """Those of the language model."""
        return self.llm.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """That of the language model."""
        return self.llm.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Logits [B, L', vocabulary] of rows padded on the right, and the loss if there are `labels` [B, L].

        Positions of a recording have no label.
        """
        rows, targets = self._rows(input_ids, attention_mask, input_features, input_features_mask, labels)
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows], True
        )
        given = None if labels is None else nn.utils.rnn.pad_sequence(targets, True, IGNORE)
        embeddings = nn.utils.rnn.pad_sequence(rows, True)
        return self.llm(inputs_embeds=embeddings, attention_mask=mask, labels=given, **options)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """The given tokens [B, L] and those of the answers behind them; `options` as of `transformers`' `generate`."""
        rows, _ = self._rows(input_ids, attention_mask, input_features, input_features_mask, None)
        width = max(map(len, rows))
        embeddings = torch.stack([nn.functional.pad(row, (0, 0, width - len(row), 0)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=embeddings.device)
        mask = (torch.arange(width, device=embeddings.device)[None] >= width - lengths[:, None]).long()
        answer = self.llm.generate(
            inputs_embeds=embeddings,
            attention_mask=mask,
            generation_config=generation_config or self.generation_config,
            **options,
        )
        if isinstance(answer, Tensor):
            return torch.cat([input_ids, answer], dim=1)
        answer.sequences = torch.cat([input_ids, answer.sequences], dim=1)
        return answer

    def _rows(
        self,
        ids: Tensor,
        mask: Tensor | None,
        features: Tensor | None,
        features_mask: Tensor | None,
        labels: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings [L', D] of each row without padding, and labels [L']. Raises ValueError if recordings are missing."""
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        heard = self._hear(features, features_mask)
        marks = int(((ids == self.config.audio_token_id) & real).sum())
        if marks != len(heard):
            raise ValueError(f"The rows have {marks} audio tokens and there are {len(heard)} recordings.")
        table, rows, targets, following = self.get_input_embeddings(), [], [], iter(heard)
        for index in range(len(ids)):
            row = ids[index][real[index]]
            answers = torch.full_like(row, IGNORE) if labels is None else labels[index][real[index]]
            pieces, named = [], []
            at, start = (row == self.config.audio_token_id).nonzero()[:, 0].tolist(), 0
            for place in [*at, len(row)]:
                pieces.append(table(row[start:place]))
                named.append(answers[start:place])
                if place < len(row):
                    pieces.append(next(following).to(pieces[0].dtype))
                    named.append(answers.new_full((len(pieces[-1]),), IGNORE))
                start = place + 1
            rows.append(torch.cat(pieces))
            targets.append(torch.cat(named))
        return rows, targets

    def _hear(self, features: Tensor | None, mask: Tensor | None) -> Sequence[Tensor]:
        """Vectors [length, D] of each recording."""
        if features is None:
            return []
        if mask is None:
            raise ValueError("input_features come with input_features_mask; the processor makes both.")
        frames, frame_mask = self.audio_encoder.hear(features, mask)
        hand_on = getattr(self.connector, "hand_on", self.connector.prepare)  # with gradients where there are any
        vectors, real = self.connector(hand_on(frames, frame_mask))
        return [row[one] for row, one in zip(vectors, real, strict=True)]


def _empty(config: LalmConfig) -> tuple[Any, Any, Any]:
    """The modules, for weights to be read into."""
    choice = PluginChoice.model_validate({"name": config.connector["name"], **config.connector["options"]})
    connector = _assemble.build_connector(choice, _encoders.width(config.audio_config), config.text_config.hidden_size)
    encoder = _encoders.encoder_class(config.audio_config)._from_config(config.audio_config)
    hearing = _encoders.hearing(encoder, None, getattr(connector, "taps", None))
    return hearing, connector, AutoModelForCausalLM.from_config(config.text_config)


def _from_parts(config: LalmConfig, folder: Path, options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The modules, encoder and language model from where they are, the connector from the folder."""
    for key in ("device_map", "quantization_config"):
        if options.get(key) is not None:
            raise ModelError(
                f"{folder}: its parts lie elsewhere, so {key} cannot be used. Export with --merged, or use .to()."
            )
    dtype = options.get("dtype") or config.dtype
    dtype = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else None if dtype == "auto" else dtype
    places = config.parts or {}
    speech, language = find_part(places["encoder"]), find_part(places["language_model"])
    encoder = _encoders.load_encoder(speech, config.audio_config, dtype)
    llm = _assemble.load_language_model(language, config.text_config, dtype)
    for part, module, key in ((speech, encoder, "encoder"), (language, llm, "language_model")):
        stated = places[key].get("weights")
        if stated is not None and stated != parts.sampled_hash("", module):
            raise ModelError(f"{part.source}: these are not the weights that the model was trained with ({stated}).")
    choice = PluginChoice.model_validate({"name": config.connector["name"], **config.connector["options"]})
    connector = _assemble.build_connector(choice, _encoders.width(config.audio_config), config.text_config.hidden_size)
    if (folder / CONNECTOR_FILE).is_file():
        connector.load_state_dict(load_file(folder / CONNECTOR_FILE))
    return _encoders.hearing(encoder, None, getattr(connector, "taps", None)), connector, llm


def find_part(place: dict[str, Any]) -> parts.Part:
    """An encoder or a language model that lies elsewhere: on the hub, or in the embedded model."""
    for name, folder in EMBEDDED.items():
        if name in place:
            return parts.find(str(folder() / place[name]))
    return parts.find(place["source"], place["revision"])


def _find_files_of(config: LalmConfig, folder: Path) -> None:
    """Files that the connector's options name, within the folder."""
    options = dict(config.connector["options"])
    for key in config.connector.get("files", ()):
        options[key] = str(folder / Path(options[key]).name)
    config.connector = {**config.connector, "options": options}


def _local(name: str, options: dict[str, Any]) -> Path:
    """The folder; of a hub repository, the one that its files are kept in."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    given = {key: options.pop(key) for key in ("revision", "token", "cache_dir") if options.get(key) is not None}
    return Path(
        snapshot_download(
            name, allow_patterns=list(_FILES), local_files_only=bool(options.get("local_files_only")), **given
        )
    )
