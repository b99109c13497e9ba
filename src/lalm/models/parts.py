"""A `transformers` model by hub id or local folder: what it is and whether it can be used is known before its weights are read.

A hub repository is fetched in two steps: configuration and tokenizer first, weights when they are asked for. Only
safetensors are fetched and read. A pickle (`pytorch_model.bin` and the like) runs whatever code stands in it while it is
opened, so it is refused. Code that lies beside the weights runs only if the recipe says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lalm.errors import ModelError
from lalm.rundir import read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "README.md")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Part:
    """A model whose configuration is on this machine; its weights may not be yet.

    `source` is what the recipe names, `revision` the hub's commit (None: a local folder), `config` its `config.json`.
    """

    source: str
    folder: Path
    revision: str | None
    config: Mapping[str, Any]
    remote_code: bool = False

    @property
    def model_type(self) -> str:
        """The family, in the words of `transformers`."""
        return str(self.config.get("model_type"))


def find(source: str, revision: str | None = None, remote_code: bool = False) -> Part:
    """The part of a local folder or of the hub. Raises ModelError if it is not there or is no model of `transformers`."""
    folder = Path(source).expanduser()
    commit = None
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(source) or folder.exists():
            raise ModelError(f"{source}: there is no such folder, and this is no hub id (owner/name) either.")
        patterns = [*_SMALL_FILES, *(["*.py"] if remote_code else [])]
        folder = _snapshot(source, revision, patterns)
        commit = folder.name
    if not (folder / "config.json").is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise ModelError(f"{source}: config.json is missing, so this is no model of transformers. There is: {there}.")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{source}: config.json names no model_type, so its family is not known.")
    return Part(source, folder, commit, config, remote_code)


def weight_files(part: Part) -> list[str]:
    """The safetensors files of a part, fetched if they are on the hub. Raises ModelError if there are none, or not all."""
    index = part.folder / INDEX
    names = [WEIGHTS]
    if index.is_file() and not (part.folder / WEIGHTS).is_file():
        table = read_json(index)
        named = table.get("weight_map") if isinstance(table, dict) else None
        if not isinstance(named, dict) or not named:
            raise ModelError(f"{part.source}: {INDEX} lists no weights.")
        names = sorted({Path(str(name)).name for name in named.values()})
    if part.revision is not None and not all((part.folder / name).is_file() for name in names):
        _snapshot(part.source, part.revision, names)
    missing = [name for name in names if not (part.folder / name).is_file()]
    if missing:
        raise ModelError(_without_weights(part, names, missing))
    return names


def _without_weights(part: Part, names: Sequence[str], missing: Sequence[str]) -> str:
    if names != [WEIGHTS]:
        return f"{part.source}: {len(missing)} of {len(names)} files of weights are missing: {', '.join(missing)}."
    there = _repository_files(part) if part.revision is not None else [path.name for path in part.folder.iterdir()]
    pickles = sorted(name for name in there if Path(name).suffix in _PICKLES)
    if pickles:
        return (
            f"{part.source}: its weights are there as {', '.join(pickles[:3])} only. Such a file can run any code while it "
            f"is opened, so it is refused. Save the model as safetensors (`save_pretrained` of transformers does, "
            f"where you trust the file) and name that folder."
        )
    return f"{part.source}: {WEIGHTS} is missing, and so is {INDEX}."


def _repository_files(part: Part) -> list[str]:
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(part.source, revision=part.revision)
    except Exception:  # offline: what is missing is said without the list
        return []


def _snapshot(source: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a hub repository with the files that match. Raises ModelError if it cannot be had."""
    from huggingface_hub import snapshot_download

    with quiet_libraries():
        try:
            return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
        except Exception as error:  # the hub client has many families of errors; all mean: not from here
            first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            at = f" at revision {revision}" if revision else ""
            raise ModelError(
                f"{source}{at}: there is no such folder, and the hub did not bring it ({type(error).__name__}: {first}). "
                f"Check the name; for a gated model log in with `hf auth login`; without a network name a local folder."
            ) from error


def licence(part: Part) -> str:
    """The licence that the part's model card states in its front matter."""
    import yaml

    try:
        text = (part.folder / "README.md").read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        front = None
    stated = front.get("license_name") or front.get("license") if isinstance(front, dict) else None
    return str(stated) if stated else "not stated"


def load_config(part: Part) -> Any:
    """The configuration as `transformers` reads it. Raises ModelError if it cannot."""
    from transformers import AutoConfig

    return _read(part, AutoConfig, "configuration")


def load_tokenizer(part: Part) -> Any:
    """The tokenizer that lies beside the weights."""
    from transformers import AutoTokenizer

    return _read(part, AutoTokenizer, "tokenizer")


def load_feature_extractor(part: Part) -> Any:
    """The feature extractor that lies beside the weights."""
    from transformers import AutoFeatureExtractor

    return _read(part, AutoFeatureExtractor, "feature extractor")


def _read(part: Part, reader: Any, what: str) -> Any:
    with quiet_libraries():
        try:
            return reader.from_pretrained(part.folder, local_files_only=True, trust_remote_code=part.remote_code)
        except Exception as error:  # transformers raises whatever the reading met
            raise ModelError(f"{part.source}: its {what} cannot be read ({_in_a_line(error)}).") from error


def load_weights(
    model_class: Any, part: Part, dtype: torch.dtype | None = None, may_miss: Sequence[str] = (), **options: Any
) -> Any:
    """The model in evaluation mode, in float32 unless `dtype` says otherwise; `options` go to `from_pretrained`.

    Raises ModelError for weights that are missing, damaged or of another shape; `may_miss` are names that may be missing.
    """
    import torch

    weight_files(part)
    if part.remote_code:
        options["trust_remote_code"] = True
    with quiet_libraries():
        try:
            model, found = model_class.from_pretrained(
                part.folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype or torch.float32,
                output_loading_info=True,
                **options,
            )
        except Exception as error:  # as above; what is wrong with a file is said by safetensors
            raise ModelError(f"{part.source}: its weights cannot be read ({_in_a_line(error)}).") from error
    missing = sorted(name for name in found["missing_keys"] if not name.endswith(tuple(may_miss) or ("\0",)))
    if missing:
        raise ModelError(
            f"{part.source}: {len(missing)} weights of {type(model).__name__} are missing in its files, first {missing[0]}."
        )
    return model.eval()


def _in_a_line(error: Exception) -> str:
    line = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {line[:300]}{'...' if len(line) > 300 else ''}"


def sampled_hash(start: str, module: torch.nn.Module) -> str:
    """Twelve hex digits that name weights: at most about a thousand values of each tensor, spread over it."""
    digest = hashlib.sha256(start.encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        sample = tensor.detach().flatten()[:: max(1, tensor.numel() // 512)]
        digest.update(sample.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


_OF_NO_IMPORTANCE = (
    "transformers_version",
    "dtype",
    "name_or_path",
    "architectures",
    "processor_class",
    "feature_extractor_type",
)


def settings_key(*settings: Any) -> str:
    """Configurations as one string, without where each was read from, and by which release."""
    parts = [
        {key: value for key, value in one.items() if key[:1] != "_" and key not in _OF_NO_IMPORTANCE}
        if isinstance(one, dict)
        else one
        for one in settings
    ]
    return json.dumps(parts, sort_keys=True, default=str)


def hearing_key(weights: str, module: torch.nn.Module) -> str:
    """Weights by their hash, with what else decides what they compute: number format and kind of device."""
    first = next(module.parameters())
    return f"{weights}-{str(first.dtype).removeprefix('torch.')}-{first.device.type}"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """transformers without warnings and progress bars."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
