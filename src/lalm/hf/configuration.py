"""What a composed model is made of, as `config.json` says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig


class LalmConfig(PretrainedConfig):
    """Encoder (`audio_config`), connector (plug-in name and options) and causal language model (`text_config`).

    `audio_token_id` is the token that stands for a recording, once, however long it is; it has no embedding. `parts` says
    where encoder and language model come from if their weights are not in the folder. `uses_decoder` says that the connector
    lets Whisper's decoder write, whose weights lie in the folder `speech` or in the encoder's part.
    """

    model_type = "lalm"
    sub_configs = {"audio_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012  # as transformers has it

    def __init__(
        self,
        audio_config: Any = None,
        text_config: Any = None,
        connector: Mapping[str, Any] | None = None,
        audio_token_id: int | None = None,
        parts: Mapping[str, Any] | None = None,
        uses_decoder: bool = False,
        **others: Any,
    ) -> None:
        self.audio_config = _config(audio_config)
        self.text_config = _config(text_config)
        self.connector = dict(connector or {"name": "mlp", "options": {}})
        self.audio_token_id = audio_token_id
        self.parts = dict(parts) if parts else None
        self.uses_decoder = uses_decoder
        super().__init__(**others)


def _config(value: Any) -> Any:
    """A configuration from what stands in `config.json`."""
    if not isinstance(value, Mapping):
        return value
    values = dict(value)
    return AutoConfig.for_model(values.pop("model_type"), **values)
