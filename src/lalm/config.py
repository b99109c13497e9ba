"""The recipe: what to adapt, with what, how, and how it is judged. Parsed once at the door, then plain typed values.

A section that chooses a plug-in is written `{name: lora, r: 16}`, or just `lora` for its defaults. Any value can be
overridden on the command line: `tuner.r=8`, `scheme=text_only`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from lalm import plugins
from lalm.errors import ConfigError


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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(_Section):
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


class TrainSection(_Section):
    """How the loop runs; names as in Hugging Face's TrainingArguments."""

    learning_rate: PositiveFloat = Field(5e-4, description="peak learning rate of a stage with scale 1")
    per_device_train_batch_size: PositiveInt = Field(8, description="rows a micro-batch")
    gradient_accumulation_steps: PositiveInt = Field(1, description="micro-batches an optimizer step")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this norm")
    lr_scheduler_type: str = Field("cosine", pattern="^(cosine|linear|constant)$", description="after warm-up, within a stage")
    groups: tuple[str, ...] = Field(("llm.attention", "llm.mlp"), description="groups that are trained")
    seed: int = Field(0, description="seed of initialisation, order and dropout")
    bf16: bool | None = Field(None, description="train in bfloat16 (none: where the machine computes in it natively)")
    save_steps: PositiveInt = Field(200, description="optimizer steps between checkpoints")
    save_total_limit: PositiveInt = Field(2, description="checkpoints kept, the best one apart")
    eval_steps: PositiveInt | None = Field(None, description="optimizer steps between evaluations on dev (none: stage ends)")
    metric_for_best_model: str | None = Field(None, description="dev metric that picks the best checkpoint (none: last is used)")
    early_stopping_patience: PositiveInt | None = Field(None, description="dev evaluations without gain before stopping")
    logging_steps: PositiveInt = Field(10, description="optimizer steps between log lines")


class EvaluateSection(_Section):
    """How runs are judged."""

    metrics: tuple[str, ...] = Field(
        ("intent_accuracy", "entity_f1", "slu_f1", "exact_match"), description="metric plug-ins"
    )
    num_beams: PositiveInt = Field(1, description="1 is greedy")
    max_new_tokens: PositiveInt = Field(160, description="longest answer, in tokens")
    per_device_eval_batch_size: PositiveInt = Field(32, description="rows generated at once")
    num_resamples: PositiveInt = Field(1000, description="bootstrap resamples of an interval")


class Recipe(_Section):
    """One training run, resolved."""

    data: DataSection
    task: PluginChoice = Field(default_factory=lambda: PluginChoice(name="slu"), description="makes examples from rows")
    backbone: PluginChoice = Field(default_factory=lambda: PluginChoice(name="smol"), description="the model")
    tuner: PluginChoice = Field(default_factory=lambda: PluginChoice(name="lora"), description="how weights are trained")
    scheme: PluginChoice = Field(default_factory=lambda: PluginChoice(name="curriculum"), description="what is seen when")
    train: TrainSection = Field(default_factory=lambda: TrainSection())
    evaluate: EvaluateSection = Field(default_factory=lambda: EvaluateSection())
    plugins: tuple[Path, ...] = Field((), description="folders with plug-ins of your own")


_KINDS = {"backbone": "backbones", "tuner": "tuners", "scheme": "schemes", "task": "tasks"}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises ConfigError (missing, not YAML, not a mapping) naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a UTF-8 text file (byte {error.start}).") from None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of sections, this is a {type(value).__name__}.")
    return value


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """`values` with `a.b=value` assignments applied (values in YAML notation). Raises ConfigError for a malformed one."""
    result = json.loads(json.dumps(values, default=str))
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise ConfigError(f"'{assignment}': an override is written key=value, for example tuner.r=8.")
        target = result
        *parents, last = key.split(".")
        for parent in parents:
            below = target.get(parent)
            if isinstance(below, str):  # a plug-in given by its name alone
                below = {"name": below}
            target[parent] = below if isinstance(below, dict) else {}
            target = target[parent]
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"'{assignment}': the value is not valid YAML.") from None
    return result


def load_recipe(path: Path, assignments: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, its paths made absolute. Raises ConfigError with every problem at once."""
    return parse_recipe(override(read_yaml(path), assignments), base=path.parent, where=str(path))


def parse_recipe(values: Mapping[str, Any], base: Path, where: str = "") -> Recipe:
    """A recipe from parsed YAML; relative paths are taken from `base`; plug-in names and options are checked."""
    recipe = plugins.parse(Recipe, values, where)
    user_folders = tuple(_absolute(base, folder) for folder in recipe.plugins)
    plugins.add_roots(user_folders)
    data = recipe.data.model_copy(
        update={
            "root": _absolute(base, recipe.data.root),
            "synthetic": _absolute(base, recipe.data.synthetic) if recipe.data.synthetic else None,
            "corpus": _resolve("corpora", recipe.data.corpus, "data.corpus"),
        }
    )
    choices = {section: _resolve(kind, getattr(recipe, section), section) for section, kind in _KINDS.items()}
    for metric in (*recipe.evaluate.metrics, *filter(None, [recipe.train.metric_for_best_model])):
        plugins.load("metrics", metric)
    return recipe.model_copy(update={"data": data, "plugins": user_folders, **choices})


def _absolute(base: Path, path: Path) -> Path:
    return Path(os.path.normpath(base.absolute() / path.expanduser()))


def _resolve(kind: str, choice: PluginChoice, where: str) -> PluginChoice:
    """The choice with every option written out."""
    config = plugins.configure(plugins.load(kind, choice.name), choice.options, where)
    return PluginChoice.model_validate({"name": choice.name, **config.model_dump(mode="json")})


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_hash(value: Any) -> str:
    """Twelve hex digits that name a JSON-able value."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
