"""Loading real folders: round trips, the layouts that are published, and what is said of folders that cannot be used."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from lalm import plugins
from lalm.backbones import qwen2_audio
from lalm.backbones._native_load import load_native
from lalm.cli import main
from lalm.errors import ModelError
from lalm.models import parts
from lalm.records import Example

NATIVE = ("audio_flamingo3", "glm_asr", "qwen2_5_omni", "qwen2_audio", "qwen3_asr", "voxtral")


def save(model, folder: Path) -> Path:
    """As `transformers` writes a model that somebody publishes."""
    model.module.save_pretrained(str(folder))
    model.processor.save_pretrained(str(folder))
    return folder


def load(name: str, folder: Path | str, **options):
    module = plugins.load("backbones", name)
    return module.load(module.Config(model=str(folder), **options))


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Example]:
    path = tmp_path_factory.mktemp("sounds") / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(11_000), 16_000)
    return [Example("a", "As JSON.", "{}", audio=path), Example("t", "As JSON.", "[1]", text="turn on the light")]


@torch.no_grad()
def nll(model, rows) -> torch.Tensor:
    return model.loss(model.batch(rows))[0]


@pytest.fixture(scope="module")
def tiny():
    return qwen2_audio.make_tiny(1)


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory) -> Path:
    return save(tiny, tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("name", NATIVE)
def test_a_saved_model_is_read_back_equal(name, rows, tmp_path):
    model = plugins.load("backbones", name).make_tiny(1)
    again = load(name, save(model, tmp_path))
    assert torch.allclose(nll(again, rows), nll(model, rows), rtol=1e-6, atol=0)
    assert again.generate(rows, 4) == model.generate(rows, 4)
    assert again.identity["backbone"] == name
    assert again.identity["model"] == str(tmp_path)


def test_licence_files_and_number_format_are_recorded(folder, tiny, rows):
    first = load("qwen2_audio", folder)
    assert first.identity["dtype"] == "float32"
    assert first.identity["licences"] == {str(folder): "not stated"}
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\nA model.\n", encoding="utf-8")
    small = load("qwen2_audio", folder, dtype="bfloat16")
    assert small.identity["licences"] == {str(folder): "cc-by-nc-4.0"}
    assert small.identity["dtype"] == "bfloat16"
    assert small.identity["files"] == first.identity["files"]
    assert torch.allclose(nll(small, rows), nll(tiny, rows), rtol=0.05, atol=0)
    other = save(qwen2_audio.make_tiny(2), folder.parent / "other")
    assert load("qwen2_audio", other).identity["files"] != first.identity["files"]


def write(model, folder: Path, names: dict[str, str], **more: torch.Tensor) -> None:
    """The model's weights in one file, `names` of prefixes changed; `more` stands in the file besides."""
    state = {}
    for name, tensor in model.module.state_dict().items():
        new = next((new for new in names if name.startswith(new)), None)
        state[name if new is None else names[new] + name.removeprefix(new)] = tensor.clone()
    assert all(any(name.startswith(old) for name in state) for old in names.values())
    save_file({**state, **more}, folder / "model.safetensors", metadata={"format": "pt"})


PUBLISHED = {  # names in the hub's repositories, which are older than the class's own of today
    "lm_head.": "language_model.lm_head.",
    "model.language_model.": "language_model.model.",
    "model.audio_tower.": "audio_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
THINKER = {
    "lm_head.": "thinker.lm_head.",
    "model.language_model.": "thinker.model.",
    "model.audio_tower.": "thinker.audio_tower.",
    "model.visual.": "thinker.visual.",
}


@pytest.mark.parametrize("names", [PUBLISHED, {}])
@pytest.mark.parametrize("name", ["qwen2_audio", "voxtral", "audio_flamingo3", "glm_asr"])
def test_published_names_of_weights_and_those_of_today_are_read(name, names, rows, tmp_path):
    model = plugins.load("backbones", name).make_tiny(1)
    folder = save(model, tmp_path)
    write(model, folder, names)
    assert torch.allclose(nll(load(name, folder), rows), nll(model, rows), rtol=1e-6, atol=0)


def test_the_thinker_is_read_out_of_the_whole_of_qwen2_5_omni(rows, tmp_path):
    model = plugins.load("backbones", "qwen2_5_omni").make_tiny(1)
    folder = save(model, tmp_path)
    write(model, folder, THINKER, **{"talker.codec_head.weight": torch.zeros(2, 2)})
    thinker = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    whole = {"model_type": "qwen2_5_omni", "architectures": ["Qwen2_5OmniModel"], "thinker_config": thinker}
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    assert torch.allclose(nll(load("qwen2_5_omni", folder), rows), nll(model, rows), rtol=1e-6, atol=0)


def test_voxtral_reads_mistral_s_own_tokenizer_file(rows, tmp_path):
    model = plugins.load("backbones", "voxtral").make_tiny(1)
    folder = save(model, tmp_path)
    tokens = model.tokenizer.convert_ids_to_tokens(list(range(len(model.tokenizer))))
    characters = {token: bytes([number]) for number, token in _bytes_to_unicode().items()}
    assert len(tokens) == 32 + 256
    tekken = {
        "config": {"pattern": r"\s+|\S+", "default_vocab_size": 288, "default_num_special_tokens": 32, "version": "v7"},
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(characters[token]).decode(), "token_str": None}
            for rank, token in enumerate(tokens[32:])
        ],
        "special_tokens": [
            {"rank": rank, "token_str": token, "is_control": True} for rank, token in enumerate(tokens[:32])
        ],
    }
    for path in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        (folder / path).unlink(missing_ok=True)
    model.processor.feature_extractor.save_pretrained(str(folder))
    (folder / "tekken.json").write_text(json.dumps(tekken), encoding="utf-8")
    again = load("voxtral", folder)
    assert torch.equal(again.batch(rows).input_ids, model.batch(rows).input_ids)
    assert torch.allclose(nll(again, rows), nll(model, rows), rtol=1e-6, atol=0)
    assert again.batch(rows).decoded_labels(again.tokenizer) == ["{}</s>", "[1]</s>"]


def _bytes_to_unicode() -> dict[int, str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()


def test_a_hub_id_is_read_from_the_cache_without_a_network(saved, tiny, rows, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny-audio"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = load("qwen2_audio", "somebody/tiny-audio")
    assert model.identity["revision"] == commit
    assert torch.equal(nll(model, rows), nll(tiny, rows))
    with pytest.raises(ModelError, match=r"somebody/else: .*the hub did not bring it"):
        load("qwen2_audio", "somebody/else")


# -- what cannot be used -------------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch):
    """Reading weights is an error: what these tests are about is known before."""

    def read(*_, **__):
        raise AssertionError("weights are read")

    monkeypatch.setattr(parts, "load_weights", read)


def change(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **values}), encoding="utf-8")


def test_a_model_of_another_family_names_the_backbone_for_it(folder, no_weights):
    change(folder, model_type="voxtral")
    with pytest.raises(
        ModelError, match=r"type 'voxtral', and the backbone qwen2_audio takes qwen2_audio\. Use .*'voxtral'"
    ):
        load("qwen2_audio", folder)
    change(folder, model_type="llama")
    with pytest.raises(
        ModelError, match=r"type 'llama'.* Model types that have a backbone: audioflamingo3, glmasr, .*voxtral"
    ):
        load("qwen2_audio", folder)


def test_a_folder_that_is_none_or_lacks_its_configuration_is_named(folder, no_weights):
    with pytest.raises(ModelError, match="there is no such folder"):
        load("qwen2_audio", folder / "nowhere" / "at all")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        load("qwen2_audio", folder)


@pytest.mark.parametrize("gone", [("tokenizer.json",), ("processor_config.json", "preprocessor_config.json")])
def test_a_folder_without_its_processor_says_what_is_needed(folder, no_weights, gone):
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(
        ModelError, match=r"its processor cannot be read .*tokenizer's files and preprocessor_config\.json"
    ):
        load("qwen2_audio", folder)


def test_pickles_are_refused_with_the_reason(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model\.bin only\. Such a file can run any code"):
        load("qwen2_audio", folder)


def test_weights_that_are_missing_or_damaged_are_named(folder):
    state = {key: value.clone() for key, value in load_file(folder / "model.safetensors").items()}
    name = next(key for key in state if key.endswith("multi_modal_projector.linear.weight"))
    del state[name]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"1 weights of Qwen2AudioForConditionalGeneration are missing .*{name}"):
        load("qwen2_audio", folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="its weights cannot be read"):
        load("qwen2_audio", folder)
    (folder / "model.safetensors").unlink()
    shards = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards), encoding="utf-8")
    save_file({"a": torch.zeros(1)}, folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"1 of 2 files of weights are missing: model-00002-of-00002\.safetensors"):
        load("qwen2_audio", folder)


def test_a_release_of_transformers_without_the_class_is_named():
    from dataclasses import replace

    from lalm.backbones._native_load import model_class

    with pytest.raises(ModelError, match=r"NoSuchModel is not part of transformers .*tested with"):
        model_class(replace(qwen2_audio.FAMILY, model_class="NoSuchModel"))


def test_code_beside_the_weights_is_not_run(folder, tmp_path):
    """A tokenizer that brings its own code is refused or left aside; the mark that its code would leave is not there."""
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n", encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    change(folder, auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})
    with contextlib.suppress(ModelError):
        load("qwen2_audio", folder)
    assert not mark.exists()


def test_the_command_line_says_it_in_a_paragraph(tmp_path, capsys):
    plugins.load("corpora", "jsonl").make_tiny(tmp_path, seed=0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {corpus: jsonl, root: .}\nbackbone: {name: qwen2_audio}\n", encoding="utf-8")
    assert main(["check", str(recipe), f"backbone.model={tmp_path / 'nowhere at all'}"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["check", str(recipe), "backbone.tiny=true", "train.groups=[]"]) == 2
    assert "train.groups is empty: nothing would be trained." in capsys.readouterr().err
    assert main(["check", str(recipe), "backbone.tiny=true", "train.groups=[llm.norms]"]) == 2
    assert "has no linear layer for LoRA" in capsys.readouterr().err
    assert main(["check", str(recipe), "backbone.dtype=float8"]) == 2
    assert "backbone.dtype" in capsys.readouterr().err


def test_load_native_is_what_every_backbone_uses():
    for name in NATIVE:
        module = plugins.load("backbones", name)
        assert module.FAMILY.name == name
        with pytest.raises(ModelError, match="there is no such folder"):
            load_native(module.FAMILY, module.Config(model="no such/model/at all"), module._tiny)
