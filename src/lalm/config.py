"""The recipe: what to adapt, with what, how, and how it is judged. Parsed once at the door, then plain typed values.

A section that chooses a plug-in is written `{name: lora, r: 16}`, just `lora` for its defaults, or `{r: 16}` for
options of the plug-in that is chosen anyway. Any value can be overridden on the command line: `tuner.r=8`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import yaml
from pydantic import Field, model_validator

from lalm import plugins
from lalm.errors import ConfigError
from lalm.plugins import place
from lalm.sections import AugmentSection, DataSection, EvaluateSection, PluginChoice, Section, TrainSection

_KINDS = {"task": "tasks", "backbone": "backbones", "tuner": "tuners", "scheme": "schemes"}
_DEFAULTS = {"task": "slu", "backbone": "smol", "tuner": "lora", "scheme": "curriculum"}


def _chosen(section: str, description: str) -> Any:
    return Field(default_factory=lambda: PluginChoice(name=_DEFAULTS[section]), description=description)


class Recipe(Section):
    """One training run, resolved."""

    data: DataSection = Field(description="which rows")
    task: PluginChoice = _chosen("task", "makes examples from rows")
    backbone: PluginChoice = _chosen("backbone", "the model")
    tuner: PluginChoice = _chosen("tuner", "how weights are trained")
    scheme: PluginChoice = _chosen("scheme", "what is seen when")
    train: TrainSection = Field(default_factory=lambda: TrainSection(), description="how the loop runs")
    evaluate: EvaluateSection = Field(default_factory=lambda: EvaluateSection(), description="how runs are judged")
    plugins: tuple[Path, ...] = Field((), description="folders with plug-ins of your own")
    task_tags: bool = Field(False, description="end every instruction with a line that names the task and the language")

    @model_validator(mode="before")
    @classmethod
    def _options_of_the_default(cls, value: Any) -> Any:
        named = {}
        for section, name in _DEFAULTS.items():
            given = value.get(section) if isinstance(value, dict) else None
            if isinstance(given, dict) and "name" not in given:
                named[section] = {"name": name, **given}
        return {**value, **named} if named else value


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice in a mapping is an error, instead of the first one being lost.

    Truth values are `true` and `false`, as in YAML 1.2: `no` is Norwegian. A date is a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern) for tag, pattern in found if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises ConfigError (missing, not YAML, not a mapping) naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a UTF-8 text file (byte {error.start}).") from None
    try:
        value = yaml.load(text, _Loader)  # a safe loader: it makes plain values only
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply.") from None
    except (ValueError, TypeError) as error:  # of a tag such as !!int that its value does not fit
        raise ConfigError(f"{path}: a value is not what its tag says ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(value, dict):
        what = "the file is empty" if value is None else f"this is a {type(value).__name__}"
        raise ConfigError(f"{path}: a mapping of keys is needed, {what}.")
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
            target[last] = yaml.load(text, _Loader)
        except yaml.YAMLError:
            raise ConfigError(f"'{assignment}': the value is not valid YAML.") from None
    return result


def load_recipe(path: Path, assignments: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, its paths made absolute. Raises ConfigError with every problem at once."""
    return parse_recipe(override(read_recipe(path), assignments), base=path.parent, where=str(path))


def read_recipe(path: Path) -> dict[str, Any]:
    """What stands in a recipe's file. Raises ConfigError for a study's."""
    values = read_yaml(path)
    if "recipe" in values and "data" not in values:
        raise ConfigError(f"{path}: this is a study, and a recipe is needed. Studies are run with: lalm study {path}")
    return values


def read_study(path: Path) -> dict[str, Any]:
    """What stands in a study's file. Raises ConfigError for a recipe's."""
    values = read_yaml(path)
    if "data" in values and "recipe" not in values:
        raise ConfigError(f"{path}: this is a recipe, and a study is needed. Recipes are run with: lalm train {path}")
    return values


def parse_recipe(values: Mapping[str, Any], base: Path, where: str = "") -> Recipe:
    """A recipe from parsed YAML; relative paths are taken from `base`; plug-in names and options are checked.

    `where` opens the error messages: a file, a key, or nothing.
    """
    recipe = plugins.parse(Recipe, values, where)
    user_folders = tuple(_absolute(base, folder) for folder in recipe.plugins)
    plugins.add_roots(user_folders)
    problems: list[str] = []
    data = recipe.data.model_copy(
        update={
            "root": _absolute(base, recipe.data.root),
            "synthetic": _absolute(base, recipe.data.synthetic) if recipe.data.synthetic else None,
            "augment": _augment(base, recipe.data.augment),
            "corpus": _resolve("corpora", recipe.data.corpus, place(where, "data", "corpus"), problems),
            "selector": _selector(recipe.data.selector, base, place(where, "data", "selector"), problems),
        }
    )
    for metric in recipe.evaluate.metrics:
        _load("metrics", metric, place(where, "evaluate", "metrics"), problems)
    if recipe.train.metric_for_best_model is not None:
        _load("metrics", recipe.train.metric_for_best_model, place(where, "train", "metric_for_best_model"), problems)
    evaluate = recipe.evaluate
    if evaluate.ontology is not None:
        evaluate = evaluate.model_copy(update={"ontology": _absolute(base, evaluate.ontology)})
    choices = {  # the backbone last: its connector imports torch, which need not be waited for if something is wrong
        section: _resolve(kind, getattr(recipe, section), place(where, section), problems)
        for section, kind in sorted(_KINDS.items(), key=lambda item: item[0] == "backbone")
    }
    if problems:
        raise ConfigError("\n".join(problems))
    return recipe.model_copy(update={"data": data, "evaluate": evaluate, "plugins": user_folders, **choices})


def _augment(base: Path, section: AugmentSection | None) -> AugmentSection | None:
    if section is None or section.noise_folder is None:
        return section
    return section.model_copy(update={"noise_folder": _absolute(base, section.noise_folder)})


def _absolute(base: Path, path: Path) -> Path:
    return Path(os.path.normpath(base.absolute() / path.expanduser()))


def _load(kind: str, name: str, where: str, problems: list[str]) -> ModuleType | None:
    try:
        return plugins.load(kind, name)
    except ConfigError as error:
        problems.append(f"{where}: {error}")
        return None


def _resolve(kind: str, choice: PluginChoice, where: str, problems: list[str]) -> PluginChoice:
    """The choice with every option written out, those of plug-ins among its options too; what is wrong to `problems`.

    Plug-ins among the options are looked at only if nothing is wrong so far.
    """
    module = _load(kind, choice.name, where, problems)
    if module is None:
        return choice
    try:
        config = plugins.configure(module, choice.options, where)
    except ConfigError as error:
        problems.append(str(error))
        return choice
    inner = {
        name: _resolve(f"{name}s", value, f"{where}.{name}", problems).model_dump(mode="json")
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), PluginChoice) and f"{name}s" in plugins.CONTRACTS and not problems
    }
    return PluginChoice.model_validate({"name": choice.name, **config.model_dump(mode="json"), **inner})


def _selector(choice: PluginChoice | None, base: Path, where: str, problems: list[str]) -> PluginChoice | None:
    """The resolved choice; files that its options name are looked for beside the recipe."""
    if choice is None:
        return None
    resolved = _resolve("select", choice, where, problems)
    fields = plugins.load("select", choice.name).Config.model_fields if not problems else {}
    files = {
        name: str(_absolute(base, Path(value)))
        for name, value in resolved.options.items()
        if value is not None and name in fields and Path in get_args(fields[name].annotation)
    }
    return resolved.model_copy(update=files)


def as_written_now(text: str) -> str | None:
    """A resolved recipe of any release as this one writes it, options that came since at their defaults; None if it cannot."""
    try:
        return to_yaml(parse_recipe(yaml.safe_load(text), Path.cwd()))
    except (ConfigError, yaml.YAMLError, AttributeError, TypeError):
        return None


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_hash(value: Any) -> str:
    """Twelve hex digits that name a JSON-able value."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
