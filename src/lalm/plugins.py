"""Plug-ins by file: the file name is the plug-in's name. No decorator, no list to edit.

A kind is a folder of this package (`tuners`, `schemes`, ...); every `*.py` in it without a leading underscore is a
plug-in. Users add folders of their own with `plugins: [path]` in a recipe: `path/tuners/mine.py` is the tuner `mine`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from lalm.errors import ConfigError, UserError, nearest

# kind -> the functions (or constants) that its contract asks for; the signatures stand in `contracts.py`
CONTRACTS: dict[str, tuple[str, ...]] = {
    "corpora": ("read", "make_tiny"),
    "formats": ("read", "write"),
    "tasks": ("examples",),
    "synth": ("languages", "voices", "speak"),
    "select": ("choose",),
    "connectors": ("build",),
    "backbones": ("load", "make_tiny"),
    "tuners": ("attach", "merge"),
    "schemes": ("plan",),
    "metrics": ("count", "reduce", "HIGHER_IS_BETTER"),
    "probes": ("measure",),
}

_FILES = (".yaml", ".yml", ".json", ".jsonl")  # a place that is a file rather than a key
_Model = TypeVar("_Model", bound=BaseModel)
_PACKAGE_ROOT = Path(__file__).parent
_user_roots: list[Path] = []


class PluginConfig(BaseModel):
    """Base of every plug-in's `Config`: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def add_roots(paths: Sequence[Path]) -> None:
    """Make the plug-in folders of a recipe known.

    Raises ConfigError if one is no folder, holds no known kind, or a folder whose name is nearly that of a kind.
    """
    for path in paths:
        root = path.resolve()
        if not root.is_dir():
            raise ConfigError(f"plugins: {path} is not a folder.")
        for folder in sorted(set(root.iterdir()) - {root / kind for kind in CONTRACTS}):
            if folder.is_dir() and difflib.get_close_matches(folder.name, CONTRACTS, cutoff=0.7):
                raise ConfigError(
                    f"plugins: {folder} is named like no kind of plug-in.{nearest(folder.name, CONTRACTS)}"
                )
        if not any((root / kind).is_dir() for kind in CONTRACTS):
            raise ConfigError(f"plugins: {path} holds none of the kind folders {', '.join(sorted(CONTRACTS))}.")
        if root not in _user_roots:
            _user_roots.append(root)


def user_roots() -> tuple[Path, ...]:
    """The folders of `add_roots`: another process must be told of them."""
    return tuple(_user_roots)


def _check_kind(kind: str) -> None:
    if kind not in CONTRACTS:
        raise ConfigError(f"Unknown plug-in kind '{kind}'.{nearest(kind, CONTRACTS)}")


def _files(kind: str) -> dict[str, Path]:
    _check_kind(kind)
    found: dict[str, Path] = {}
    for root in (_PACKAGE_ROOT, *_user_roots):
        for path in sorted((root / kind).glob("*.py")):
            if path.stem.startswith("_"):
                continue
            if path.stem in found:
                raise ConfigError(f"Two {kind} plug-ins are named '{path.stem}': {found[path.stem]} and {path}.")
            found[path.stem] = path
    return found


def names(kind: str) -> list[str]:
    """The names of all plug-ins of a kind, sorted. Nothing is imported."""
    return sorted(_files(kind))


def summary(kind: str, name: str) -> str:
    """First line of a plug-in's docstring, read without importing it. Raises ConfigError for a file that is no Python."""
    import ast

    path = _files(kind)[name]
    try:
        return (ast.get_docstring(ast.parse(path.read_bytes())) or "").split("\n", 1)[0]
    except (SyntaxError, ValueError, OSError) as error:
        raise _broken(kind, name, path, error) from error


def _broken(kind: str, name: str, path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"The {kind} plug-in '{name}' ({path}) is broken: {type(error).__name__}: {error}.")


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in `name` of `kind` and hold it against its contract.

    Raises ConfigError for an unknown name ("did you mean"), a file that does not import, or a missing part.
    """
    files = _files(kind)
    if name not in files:
        raise ConfigError(f"Unknown {kind} plug-in '{name}'.{nearest(name, files)}")
    path = files[name]
    try:
        module = _import(kind, name, path)
    except UserError:
        raise
    except Exception as error:
        raise _broken(kind, name, path, error) from error
    missing = [needed for needed in (*CONTRACTS[kind], "Config") if not hasattr(module, needed)]
    if missing:
        raise ConfigError(
            f"The {kind} plug-in '{name}' ({path}) lacks {', '.join(missing)}, which its contract asks for."
        )
    for needed in CONTRACTS[kind]:
        if needed.islower() and not callable(getattr(module, needed)):
            raise ConfigError(f"The {kind} plug-in '{name}' ({path}): {needed} is not a function.")
    if not (isinstance(module.Config, type) and issubclass(module.Config, PluginConfig)):
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}): Config is no subclass of lalm.plugins.PluginConfig.")
    if not (module.__doc__ or "").strip():
        raise ConfigError(
            f"The {kind} plug-in '{name}' ({path}) has no docstring; its first line is what `lalm ls` prints."
        )
    return module


def _import(kind: str, name: str, path: Path) -> ModuleType:
    if path.is_relative_to(_PACKAGE_ROOT):
        return importlib.import_module(f"lalm.{kind}.{name}")
    module_name = f"lalm_user_plugins.{kind}.{name}"
    known = sys.modules.get(module_name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}) cannot be read as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def configure(module: ModuleType, options: Mapping[str, Any], where: str) -> Any:
    """The plug-in's frozen `Config` made from `options`; `where` names the place in the recipe for error messages."""
    return parse(module.Config, options, where)


def parse(model: type[_Model], options: Mapping[str, Any], where: str) -> _Model:
    """Validate `options` against a pydantic model; every problem becomes one line of one ConfigError.

    `where` opens each line: the name of a file, a key (`data.corpus`), both as `place` joins them, or nothing.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, where)) from None


def place(where: str, *keys: str) -> str:
    """A key within a place, for error messages: `recipe.yaml: train.seed`, `data.corpus.test_size`."""
    inner = ".".join(keys)
    if not where or not inner:
        return where or inner
    return f"{where}: {inner}" if where.endswith(_FILES) else f"{where}.{inner}"


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for problem in error.errors():
        keys = [str(part) for part in problem["loc"]]
        path = place(where, *keys)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: there is no such key.{nearest(keys[-1], _allowed(model, problem['loc'][:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: this key is required and missing.")
        elif problem["type"] == "value_error":
            lines.append(f"{path}: {problem['ctx']['error']}.")
        else:
            got = repr(problem["input"])
            lines.append(f"{path}: {problem['msg']} (got {got if len(got) <= 80 else got[:77] + '...'}).")
    return "\n".join(lines)


def _allowed(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that are allowed at `location`, following nested models, also within lists and unions."""
    found: list[type[BaseModel]] = [model]
    for part in location:
        fields = [one.model_fields[part] for one in found if isinstance(part, str) and part in one.model_fields]
        found = [inner for field in fields for inner in _models(field.annotation)] or found
    return sorted({key for one in found for key in one.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models within a type: itself, or those of a union, a list, a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in _models(argument)]


def describe(kind: str | None = None, options: bool = False) -> str:
    """The plug-ins of one kind or of all, a line each: what `lalm ls` prints. With `options`, their Config fields too."""
    lines = []
    for one in [kind] if kind else sorted(CONTRACTS):
        found = names(one)
        lines.append(f"{one} ({len(found)})")
        for name in found:
            lines.append(f"  {name:<18} {summary(one, name)}")
            if options:
                for field, info in load(one, name).Config.model_fields.items():
                    default = "required" if info.is_required() else repr(info.get_default(call_default_factory=True))
                    lines.append(f"      {field} = {default}: {info.description}")
    return "\n".join(lines)
