"""The sections of a recipe as typed values; what they mean together, and how they are read, is in `config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class PluginChoice(BaseModel):
    """A plug-in's name and its options; the options are checked against the plug-in's own `Config` when it is loaded."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="file name of the plug-in")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class Section(BaseModel):
    """Frozen; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """Which rows."""

    corpus: PluginChoice = Field(description="the corpus and its options")
    root: Path = Field(Path("."), description="folder (or manifest file) of the corpus, relative to the recipe")
    speech_share: float | None = Field(None, ge=0, le=1, description="recordings used, as a share of the pool (0 to 1)")
    speech_items: int | None = Field(None, ge=0, description="recordings used, as a number of items")
    speech_minutes: float | None = Field(None, ge=0, description="recordings used, in minutes of audio")
    budget_seed: int = Field(0, description="seed of the draw of recordings; a larger budget contains the smaller one")
    num_text: PositiveInt | None = Field(None, description="text rows used, drawn at random (none: all)")
    num_test: PositiveInt | None = Field(None, description="test rows used, drawn at random (none: all)")
    synthetic: Path | None = Field(None, description="manifest of synthetic speech of the training text, if any")
    allow_outside_paths: bool = Field(False, description="let audio paths leave the corpus folder")

    @model_validator(mode="after")
    def _one_budget(self) -> DataSection:
        given = [n for n in ("speech_share", "speech_items", "speech_minutes") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one speech budget, not {' and '.join(given)}")
        return self


class TrainSection(Section):
    """How the loop runs; names as in Hugging Face's TrainingArguments."""

    learning_rate: PositiveFloat = Field(5e-4, description="peak learning rate of a stage with scale 1")
    per_device_train_batch_size: PositiveInt = Field(8, description="rows a micro-batch")
    gradient_accumulation_steps: PositiveInt = Field(1, description="micro-batches an optimizer step")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this norm")
    lr_scheduler_type: str = Field(
        "cosine", pattern="^(cosine|linear|constant)$", description="after warm-up, within a stage"
    )
    groups: tuple[str, ...] = Field(("llm.attention", "llm.mlp"), description="groups that are trained")
    seed: int = Field(0, description="seed of initialisation, order and dropout")
    bf16: bool | None = Field(None, description="train in bfloat16 (none: where the machine computes in it natively)")
    gradient_checkpointing: bool = Field(False, description="compute layers again instead of keeping what they made")
    load_in_4bit: bool = Field(False, description="keep the frozen language model in four bits (bitsandbytes nf4)")
    save_steps: PositiveInt = Field(200, description="optimizer steps between checkpoints")
    save_total_limit: PositiveInt = Field(2, description="checkpoints kept, the best one apart")
    eval_steps: PositiveInt | None = Field(
        None, description="optimizer steps between evaluations on dev (none: stage ends)"
    )
    metric_for_best_model: str | None = Field(
        None, description="dev metric that picks the best checkpoint (none: last is used)"
    )
    early_stopping_patience: PositiveInt | None = Field(
        None, description="dev evaluations without gain before stopping"
    )
    logging_steps: PositiveInt = Field(10, description="optimizer steps between log lines")


class EvaluateSection(Section):
    """How runs are judged."""

    metrics: tuple[str, ...] = Field(
        ("intent_accuracy", "entity_f1", "slu_f1", "exact_match"), description="metric plug-ins"
    )
    num_beams: PositiveInt = Field(1, description="1 is greedy")
    max_new_tokens: PositiveInt = Field(160, description="longest answer, in tokens")
    per_device_eval_batch_size: PositiveInt = Field(32, description="rows generated at once")
    bf16: bool | Literal["auto"] = Field(
        False,
        description="answer in bfloat16 (auto: where the machine computes in it natively): faster, and an answer may "
        "depend on the rows that are answered beside it",
    )
    num_resamples: PositiveInt = Field(1000, description="bootstrap resamples of an interval")
