"""Plug-ins by file: the file name is the plug-in's name. No decorator, no list to edit.

A kind is a folder of this package (`tuners`, `schemes`, ...); every `*.py` in it without a leading underscore is a
plug-in. Users add folders of their own with `plugins: [path]` in a recipe: `path/tuners/mine.py` is the tuner `mine`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lalm.errors import ConfigError, nearest

# kind -> the functions (or constants) that its contract asks for; the signatures stand in `contracts.py`
CONTRACTS: dict[str, tuple[str, ...]] = {
    "corpora": ("read", "make_tiny"),
    "tasks": ("examples",),
    "synth": ("voices", "speak"),
    "select": ("choose",),
    "connectors": ("build",),
    "backbones": ("load", "make_tiny"),
    "tuners": ("attach", "merge"),
    "schemes": ("plan",),
    "metrics": ("count", "reduce", "HIGHER_IS_BETTER"),
    "probes": ("measure",),
}

_Model = TypeVar("_Model", bound=BaseModel)
_PACKAGE_ROOT = Path(__file__).parent
_user_roots: list[Path] = []


class PluginConfig(BaseModel):
    """Base of every plug-in's `Config`: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


def add_roots(paths: Sequence[Path]) -> None:
    """Make the plug-in folders of a recipe known. Raises ConfigError if one is no folder or holds no known kind."""
    for path in paths:
        root = path.resolve()
        if not root.is_dir():
            raise ConfigError(f"plugins: {path} is not a folder.")
        if not any((root / kind).is_dir() for kind in CONTRACTS):
            raise ConfigError(f"plugins: {path} holds none of the kind folders {', '.join(sorted(CONTRACTS))}.")
        if root not in _user_roots:
            _user_roots.append(root)


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
    """First line of the plug-in's docstring, read without importing it."""
    import ast

    text = _files(kind)[name].read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n", 1)[0]


def load(kind: str, name: str) -> ModuleType:
    """Import the plug-in `name` of `kind` and hold it against its contract.

    Raises ConfigError for an unknown name ("did you mean"), a file that does not import, or a missing function.
    """
    files = _files(kind)
    if name not in files:
        raise ConfigError(f"Unknown {kind} plug-in '{name}'.{nearest(name, files)}")
    path = files[name]
    try:
        module = _import(kind, name, path)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}) cannot be imported: {error}.") from error
    except Exception as error:
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}) is broken: {type(error).__name__}: {error}.") from error
    missing = [needed for needed in (*CONTRACTS[kind], "Config") if not hasattr(module, needed)]
    if missing:
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}) lacks {', '.join(missing)}, which its contract asks for.")
    if not (module.__doc__ or "").strip():
        raise ConfigError(f"The {kind} plug-in '{name}' ({path}) has no docstring; its first line is what `lalm ls` prints.")
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
    """Validate `options` against a pydantic model; every problem becomes one line of one ConfigError."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, where)) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in (where, *problem["loc"]) if str(part))
        if problem["type"] == "extra_forbidden":
            owner = _owner(model, problem["loc"][:-1])
            lines.append(f"{path}: there is no such key.{nearest(str(problem['loc'][-1]), owner.model_fields)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: this key is required and missing.")
        else:
            lines.append(f"{path}: {problem['msg']} (got {problem['input']!r}).")
    return "\n".join(lines)


def _owner(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model whose keys are allowed at `location`, following nested models."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return model


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
