"""Loading a model of one `transformers` class: what is wrong with a recipe or a folder is said before weights are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from lalm import plugins
from lalm.backbones._family import Family, NativeConfig
from lalm.backbones._native import NativeModel
from lalm.data.cache import PreparedCache
from lalm.errors import ConfigError, ModelError
from lalm.models import parts
from lalm.models.fetch import lalm_home

TESTED = ("5.23", "5.24")  # releases of transformers that the tests were run with
_SAMPLE = 2**16  # bytes

Tiny = Callable[[int], tuple[Any, Any]]  # seed -> module, processor


def load_native(family: Family, cfg: NativeConfig, tiny: Tiny) -> NativeModel:
    """The model of a hub id or a folder, or the tiny one.

    Raises ModelError: not there, of another family, files missing, pickles, weights that do not fit.
    """
    if cfg.tiny:
        return tiny_native(
            family,
            tiny,
            cfg.seed,
            cfg.max_audio_s,
            max_audio_vectors=cfg.max_audio_vectors,
            instruction_first=cfg.instruction_first,
        )
    order = _order(family, cfg.instruction_first)
    part = parts.find(cfg.model, cfg.revision, cfg.trust_remote_code)
    check_family(family, part)
    processor = _processor(family, part)
    dtype: Any = cfg.dtype if cfg.dtype == "auto" else getattr(torch, cfg.dtype)
    module = parts.load_weights(model_class(family), part, dtype)
    check_structure(family, module)
    stated = parts.licence(part)
    known = type(cfg).model_fields["model"].default
    identity = {
        "backbone": family.name,
        "model": part.source,
        "revision": part.revision,
        "files": _files_hash(part),
        "dtype": str(module.dtype).removeprefix("torch."),
        "max_audio_s": cfg.max_audio_s,
        "licences": {part.source: family.licence if stated == "not stated" and part.source == known else stated},
        **order,
    }
    return NativeModel(
        family,
        module,
        processor,
        identity=identity,
        max_audio_s=cfg.max_audio_s,
        max_audio_vectors=cfg.max_audio_vectors,
        instruction_first=cfg.instruction_first,
        cache=heard_before(),
    )


def heard_before() -> PreparedCache | None:
    """Where what is heard of recordings is kept; None where `LALM_CACHE_GB` allows nothing."""
    cache = PreparedCache(lalm_home() / "cache" / "heard")
    return cache if cache.is_on_disk else None


def tiny_native(
    family: Family,
    tiny: Tiny,
    seed: int,
    max_audio_s: float | None = None,
    cache: PreparedCache | None = None,
    max_audio_vectors: int | None = None,
    instruction_first: bool = False,
) -> NativeModel:
    """The real classes with small random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module, processor = tiny(seed)
    identity: dict[str, Any] = {
        "backbone": family.name,
        "model": "tiny",
        "seed": seed,
        "dtype": "float32",
        "max_audio_s": max_audio_s,
        "licences": {},
        **_order(family, instruction_first),
    }
    limits: dict[str, Any] = {"max_audio_s": max_audio_s, "max_audio_vectors": max_audio_vectors}
    return NativeModel(
        family, module, processor, identity=identity, cache=cache, instruction_first=instruction_first, **limits
    )


def _order(family: Family, instruction_first: bool) -> dict[str, bool]:
    """What a run says of the order of its prompts, where it is not the family's. Raises ConfigError where there is no choice."""
    if not instruction_first:
        return {}
    if family.dialogue is None:
        raise ConfigError(
            f"backbone.instruction_first: {family.name} has one place for all words, before the recording. Leave it out."
        )
    return {"instruction_first": True}


def model_class(family: Family) -> Any:
    """The class in transformers. Raises ModelError if this release has none."""
    import transformers

    found = getattr(transformers, family.model_class, None)
    if found is None:
        raise ModelError(f"{family.model_class} is not part of {_release()}.")
    return found


def check_structure(family: Family, module: Any) -> None:
    """Raises ModelError if the class is built otherwise than in the releases that were tested."""
    names = {name for name, _ in module.named_modules()}
    missing = sorted({family.audio_encoder, *family.connector, family.language_model} - names)
    if missing:
        raise ModelError(f"{family.model_class} of {_release()} has no part {', '.join(missing)}.")


def _release() -> str:
    import transformers

    return f"transformers {transformers.__version__} (the backbones are tested with {' and '.join(TESTED)})"


def check_family(family: Family, part: parts.Part) -> None:
    """Raises ModelError if the configuration is that of another family, naming the backbone for it if there is one."""
    if part.model_type in family.model_types:
        return
    others = {}
    for name in plugins.names("backbones"):
        other = getattr(plugins.load("backbones", name), "FAMILY", None)
        others.update(dict.fromkeys(getattr(other, "model_types", ()), name))
    hint = (
        f"Use the backbone '{others[part.model_type]}' for it."
        if part.model_type in others
        else f"Model types that have a backbone: {', '.join(sorted(others))}."
    )
    raise ModelError(
        f"{part.source}: is of the type '{part.model_type}', and the backbone {family.name} takes "
        f"{' or '.join(family.model_types)}. {hint}"
    )


def _processor(family: Family, part: parts.Part) -> Any:
    with parts.quiet_libraries():
        try:
            return family.load_processor(part)
        except ModelError:
            raise
        except Exception as error:  # transformers raises whatever the reading met
            line = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{part.source}: its processor cannot be read ({type(error).__name__}: {line}). It needs the tokenizer's files "
                "and preprocessor_config.json or processor_config.json beside the weights."
            ) from error


def _files_hash(part: parts.Part) -> str:
    """Twelve hex digits that name configuration and weights: sizes, and the start, middle and end of each file."""
    digest = hashlib.sha256((part.folder / "config.json").read_bytes())
    for name in parts.weight_files(part):
        path = part.folder / name
        size = path.stat().st_size
        digest.update(f"{name} {size}".encode())
        with path.open("rb") as stream:
            for start in (0, size // 2, max(0, size - _SAMPLE)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:12]
