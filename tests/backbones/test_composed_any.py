"""The backbone `composed`: encoders and language models of many families, from folders and from the hub's cache."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tiny_parts import ENCODERS, LANGUAGE_MODELS, MEL_FAMILIES, make_encoder, make_language_model
from transformers import AutoModel, AutoModelForCausalLM, WhisperFeatureExtractor

from lalm import plugins
from lalm.backbones import composed
from lalm.backbones._chunks import chunks_of
from lalm.config import PluginChoice, load_recipe
from lalm.errors import ModelError
from lalm.records import Example

RATE_HZ = 16_000
INSTRUCTION = "Say what is wanted, as JSON."


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """What is heard is kept in a place of the tests' own, but for the embedded model that is there already."""
    folder = tmp_path_factory.mktemp("home")
    own = Path(os.environ.get("LALM_HOME", Path.home() / ".cache" / "lalm"))
    if (own / "models").is_dir():
        (folder / "models").symlink_to(own / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LALM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """The folder of a tiny part, made once."""
    root, made = tmp_path_factory.mktemp("parts"), {}

    def get(name: str) -> Path:
        if name not in made:
            make = make_encoder if name in ENCODERS else make_language_model
            made[name] = make(name, root / name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder, found = tmp_path_factory.mktemp("clips"), []
    for seed, seconds in enumerate((0.6, 1.7, 1.13, 0.04)):
        noise = np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ))
        swell = 0.1 * noise * np.sin(np.arange(len(noise)) / 900 * (1 + seed))
        soundfile.write(folder / f"{seed}.wav", swell, RATE_HZ, subtype="FLOAT")
        found.append(folder / f"{seed}.wav")
    return found


def load(encoder: Path, language_model: Path, **options):
    return composed.load(composed.Config(encoder=str(encoder), language_model=str(language_model), **options))


def rows(clips) -> list[Example]:
    texts = ["turn on the light", "no", "set an alarm for seven in the morning please", "a b c"]
    spoken = [Example(f"s{i}", INSTRUCTION, "{}" * (i + 1), audio=clip) for i, clip in enumerate(clips)]
    written = [Example(f"t{i}", INSTRUCTION, '["x"]' * (i + 1), text=text) for i, text in enumerate(texts)]
    return [row for pair in zip(spoken, written, strict=True) for row in pair]


def losses(model, examples) -> torch.Tensor:
    with torch.no_grad():
        return model.loss(model.batch(examples))[0].double()


# -- encoders ----------------------------------------------------------------------------------------------------------------


def test_every_family_of_encoders_is_tested():
    from lalm.backbones._encoders import FAMILIES

    assert {name.removesuffix("-large") for name in ENCODERS} == set(FAMILIES)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_hears_in_any_batch_what_it_hears_alone(name, part, clips):
    model = load(part(name), part("llama"))
    heard = model.module.audio_encoder
    with torch.no_grad():
        together, mask = heard.frames(clips)
        for clip, frames, real in zip(clips, together, mask, strict=True):
            alone, all_real = heard.frames([clip])
            assert all_real.all()
            assert len(alone[0]) == int(real.sum()) >= 1
            chunks = chunks_of(heard.listening, clip)
            _, of_input = heard.listening.collate(heard.feature_extractor, [chunks[0].samples], [chunks[0].name])
            assert heard.lengths(of_input).tolist() == [len(alone[0])], "known without encoding"
            assert torch.allclose(frames[real], alone[0], atol=2e-5)
    assert together.shape[-1] == heard.width == 24
    losses_together = losses(model, rows(clips))
    alone = torch.cat([losses(model, [row]) for row in rows(clips)])
    assert torch.allclose(losses_together, alone, rtol=1e-5, atol=0)
    assert len(set(losses_together[::2].tolist())) == len(clips), "different clips are different rows"


@pytest.mark.parametrize("name", [name for name in ENCODERS if name not in ("whisper", *MEL_FAMILIES)])
def test_encoders_on_waveforms_hear_as_transformers_does(name, part, clips):
    heard = load(part(name), part("llama")).module.audio_encoder
    samples, _ = soundfile.read(clips[1], dtype="float32")
    normed = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.no_grad():
        plain = AutoModel.from_pretrained(part(name)).eval()(torch.from_numpy(normed)[None]).last_hidden_state
        frames, _ = heard.frames([clips[1]])
    assert torch.allclose(frames, plain, atol=1e-5)


@pytest.mark.parametrize("name", MEL_FAMILIES)
def test_encoders_of_whispers_make_hear_thirty_full_seconds_as_transformers_does(name, part, tmp_path):
    heard = load(part(name), part("llama")).module.audio_encoder
    wave = (0.1 * np.random.default_rng(5).standard_normal(int(29.5 * RATE_HZ))).astype(np.float32)
    padded = np.concatenate([wave, np.zeros(RATE_HZ // 2, np.float32)])
    features = WhisperFeatureExtractor(feature_size=128)(padded, sampling_rate=RATE_HZ, return_tensors="pt")
    own = {"input_features_mask": torch.ones(1, 3000)} if name == "audioflamingo3_encoder" else {}
    with torch.no_grad():
        plain = AutoModel.from_pretrained(part(name)).eval()(features.input_features, **own).last_hidden_state
        frames, mask = heard.encode([wave], ["clip"])
    assert mask.all()
    assert torch.allclose(frames, plain, atol=1e-4)


def test_the_encoder_of_a_whole_whisper_and_one_saved_alone_are_the_same(part, tmp_path):
    whole = load(part("whisper"), part("llama")).module.audio_encoder
    whole.encoder.save_pretrained(tmp_path)
    whole.feature_extractor.save_pretrained(tmp_path)
    assert load(tmp_path, part("llama")).module.audio_encoder.fingerprint() == whole.fingerprint()


# -- language models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_answers_and_learns_as_transformers_runs_it(name, part, clips):
    model = load(part("whisper"), part(name))
    examples = rows(clips)
    plain = AutoModelForCausalLM.from_pretrained(part(name), dtype=torch.float32).eval()
    table, expected, answers = plain.get_input_embeddings(), [], []
    for example in examples:
        row = model.row(example)
        heard = model.module.connector(row.recordings[0].chunks)[0][0] if row.recordings else None
        middle = table(torch.tensor(row.given[0])) if heard is None else heard
        before, after = table(torch.tensor(row.before)), table(torch.tensor(row.after))
        prompt = torch.cat([before, middle, after]).detach()
        whole = torch.cat([prompt, table(torch.tensor(row.answer))])
        with torch.no_grad():
            logits = plain(inputs_embeds=whole[None]).logits[0, len(prompt) - 1 : -1].double()
            expected.append(-logits.log_softmax(-1)[range(len(row.answer)), row.answer].sum())
            tokens = plain.generate(
                inputs_embeds=prompt[None],
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=6,
            )
        answers.append(model.tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    found = losses(model, examples)
    assert torch.allclose(found, torch.stack(expected), rtol=1e-4)
    assert model.generate(examples, 6) == answers
    owner = [name for names in model.groups().values() for name in names]
    assert len(owner) == len(set(owner))
    modules = dict(model.module.named_modules())
    grouped = {id(parameter) for name in owner for parameter in modules[name].parameters()}
    assert {id(parameter) for parameter in model.module.llm.parameters()} <= grouped
    assert all(model.groups()[f"llm.{group}"] for group in ("attention", "mlp", "embeddings", "norms"))


@pytest.mark.parametrize("encoder", ["whisper", "wav2vec2", "hubert"])
def test_half_the_memory_and_nearly_the_same(encoder, part, clips):
    whole, half = (load(part(encoder), part("gemma2"), dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert {p.dtype for p in half.module.audio_encoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.module.llm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.module.connector.parameters()} == {torch.float32}
    examples = rows(clips)
    assert torch.allclose(losses(half, examples), losses(whole, examples), rtol=0.05)
    assert len(half.generate(examples, 3)) == len(examples)


def test_a_model_that_scales_its_logits_in_a_way_of_its_own_is_refused(part, tmp_path):
    folder = make_language_model("granite", tmp_path / "lm")
    model = load(part("whisper"), folder)
    from lalm.backbones import _language

    _language.check_answers(model.module)
    original = type(model.module.llm).forward

    class Doubling(type(model.module.llm)):
        def forward(self, *args, **kwargs):
            output = original(self, *args, **kwargs)
            output.logits = output.logits * 2
            return output

    model.module.llm.__class__ = Doubling
    with pytest.raises(ModelError, match=r"'granite' computes its logits in a way of its own"):
        _language.check_answers(model.module)


def test_a_template_without_a_system_turn_has_the_instruction_before_the_input(part, tmp_path, clips):
    folder = shutil.copytree(part("llama"), tmp_path / "lm")
    template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant:"
    )
    (folder / "chat_template.jinja").write_text(template)
    model = load(part("whisper"), folder)
    prompts = model.batch(rows(clips)[:2]).decoded_prompts(model.tokenizer)
    assert prompts[0] == f"<|im_start|>user\n{INSTRUCTION}\n\n[audio]<|im_end|>\n<|im_start|>assistant:"
    assert prompts[1] == f"<|im_start|>user\n{INSTRUCTION}\n\nturn on the light<|im_end|>\n<|im_start|>assistant:"


# -- the embedded model is one of them ---------------------------------------------------------------------------------------


def test_smol_is_a_composed_model(smol_folder, clips):
    smol = plugins.load("backbones", "smol")
    one = smol.load(smol.Config(connector=PluginChoice(name="mlp")))
    other = load(smol_folder / "speech", smol_folder / "language_model")
    assert one.hearing_fingerprint() == other.hearing_fingerprint()
    examples = rows(clips)[:2]
    assert [one.content(row) for row in examples] == [other.content(row) for row in examples]
    assert torch.equal(losses(one, examples), losses(other, examples))
    assert one.groups() == other.groups()


# -- what cannot be used is said before weights are read -----------------------------------------------------------------------


def refused(encoder, language_model, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load(encoder, language_model, **options)
    return str(caught.value)


def without_weights(folder: Path, copy: Path) -> Path:
    """A copy whose weights, if they were read, would be found damaged."""
    shutil.copytree(folder, copy)
    for path in copy.glob("*.safetensors"):
        path.write_bytes(b"not weights")
    return copy


def test_what_is_wrong_with_both_parts_is_said_at_once(part, tmp_path):
    text = refused(tmp_path / "gone", tmp_path / "lost")
    assert "backbone.encoder" in text
    assert "gone: there is no such folder" in text
    assert "backbone.language_model" in text
    both = refused(part("llama"), part("whisper"))
    assert "'llama' is no audio encoder" in both
    assert "'whisper' is no decoder alone" in both


def test_an_unknown_family_is_answered_with_the_nearest(part, tmp_path):
    folder = without_weights(part("wav2vec2"), tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "wav2vec3"}))
    assert "'wav2vec3' is no audio encoder known here. Did you mean 'wav2vec2'?" in refused(folder, part("llama"))
    folder = without_weights(part("llama"), tmp_path / "lm")
    (folder / "config.json").write_text(json.dumps({"model_type": "lama"}))
    assert "lm: its configuration cannot be read" in refused(part("whisper"), folder)
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in refused(part("whisper"), folder)


def test_a_whole_audio_language_model_is_told_apart(part, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_audio"}))
    assert "whole audio language model (qwen2_audio). Choose the backbone" in refused(tmp_path, part("llama"))


def test_missing_files_are_named(part, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").touch()
    assert "config.json is missing" in refused(empty, part("llama"))
    bare = without_weights(part("whisper"), tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    assert "its feature extractor cannot be read" in refused(bare, part("llama"))
    half = without_weights(part("llama"), tmp_path / "half")
    (half / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (half / "model.safetensors.index.json").write_text(json.dumps(index))
    (half / "model-00001-of-00002.safetensors").touch()
    text = refused(part("whisper"), half)
    assert "1 of 2 files of weights are missing: model-00002-of-00002.safetensors" in text
    base = without_weights(part("llama"), tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    assert "base: The language model's tokenizer has no chat template" in refused(part("whisper"), base)


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch exploded",))


def test_a_pickle_is_refused_with_the_reason_and_never_opened(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = without_weights(part("llama"), tmp_path / "lm")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    text = refused(part("whisper"), folder)
    assert "pytorch_model.bin only" in text
    assert "can run any code while it is opened" in text
    assert not (tmp_path / "exploded").exists()


def test_code_beside_the_weights_is_not_run(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(part("llama"), tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    foreign = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "foreign", "auto_map": foreign}))
    (folder / "code.py").write_text("import os\nos.system('touch exploded')\n")
    assert "configuration cannot be read" in refused(part("whisper"), folder)
    assert not (tmp_path / "exploded").exists()


TRUSTED = """
import sys
from lalm.backbones import composed
model = composed.load(composed.Config(encoder=sys.argv[1], language_model=sys.argv[2], trust_remote_code=True))
print(type(model.module.llm).__name__)
"""
FOREIGN = """
from transformers import LlamaConfig, LlamaForCausalLM


class Config(LlamaConfig):
    model_type = "foreign"


class Model(LlamaForCausalLM):
    config_class = Config
"""


def test_code_beside_the_weights_is_run_if_the_recipe_says_so(part, tmp_path):
    folder = shutil.copytree(part("llama"), tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    foreign = {"AutoConfig": "foreign.Config", "AutoModelForCausalLM": "foreign.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "foreign", "auto_map": foreign}))
    (folder / "foreign.py").write_text(FOREIGN)
    done = subprocess.run(
        [sys.executable, "-c", TRUSTED, str(part("whisper")), str(folder)],
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Model"


def test_damaged_and_incomplete_weights_are_named(part, tmp_path):
    damaged = without_weights(part("llama"), tmp_path / "lm")
    assert f"{damaged}: its weights cannot be read" in refused(part("whisper"), damaged)
    from safetensors.torch import load_file, save_file

    lacking = shutil.copytree(part("llama"), tmp_path / "lacking")
    state = load_file(lacking / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, lacking / "model.safetensors", metadata={"format": "pt"})
    text = refused(part("whisper"), lacking)
    assert "1 weights of LlamaForCausalLM are missing in its files, first model.layers.1.mlp.up_proj.weight" in text


def test_a_connector_that_does_not_fit_is_refused(part, tmp_path):
    encoder = without_weights(part("whisper"), tmp_path / "whisper")
    assert "frames of width 512, not 24" in refused(encoder, part("llama"), connector="ctc")
    assert "multilingual Whispers up to large-v2" in refused(encoder, part("llama"), connector="cascade")
    assert "Choose 'mlp'" in refused(part("wav2vec2"), part("llama"), connector="cascade")


def test_an_encoder_at_another_rate_is_refused(part, tmp_path):
    folder = without_weights(part("hubert"), tmp_path / "encoder")
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**config, "sampling_rate": 8000}))
    assert "it hears at 8000 Hz" in refused(folder, part("llama"))


def test_layers_that_carry_a_state_are_refused(part, tmp_path):
    folder = without_weights(part("llama"), tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    types = ["linear_attention", "full_attention"]
    (folder / "config.json").write_text(json.dumps({**config, "layer_types": types}))
    assert "linear_attention carry a state over padding" in refused(part("whisper"), folder)


# -- the hub, a recipe -------------------------------------------------------------------------------------------------------

FROM_THE_HUB = """
import json
from lalm.backbones import composed
from lalm.errors import ModelError
model = composed.load(composed.Config(encoder="tiny/ears", language_model="tiny/mouth"))
try:
    composed.load(composed.Config(encoder="tiny/ears", language_model="tiny/not-there"))
except ModelError as error:
    print(json.dumps([model.identity, str(error)]))
"""


def test_parts_of_the_hub_are_found_in_its_cache_without_a_network(part, tmp_path):
    for name, source in (("ears", part("wavlm")), ("mouth", part("llama"))):
        root = tmp_path / "hub" / f"models--tiny--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("a" * 40)
        copy = shutil.copytree(source, root / "snapshots" / ("a" * 40))
        (copy / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# tiny\n")
    done = subprocess.run(
        [sys.executable, "-c", FROM_THE_HUB],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    identity, error = json.loads(done.stdout)
    assert identity["encoder"]["revision"] == identity["language_model"]["revision"] == "a" * 40
    assert identity["encoder"]["model_type"] == "wavlm"
    assert identity["licences"] == {"tiny/ears": "cc-by-nc-4.0", "tiny/mouth": "cc-by-nc-4.0"}
    assert "backbone.language_model: tiny/not-there: there is no such folder, and the hub did not bring it" in error


def test_a_recipe_trains_the_connector_and_the_encoder_of_a_composed_model(part, tmp_path):
    from lalm.evaluate.predict import load_run
    from lalm.study.single import train

    plugins.load("corpora", "barista").make_tiny(tmp_path / "corpus", seed=0)
    values = {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": "corpus", "speech_share": 1.0},
        "backbone": {"name": "composed", "encoder": str(part("wav2vec2")), "language_model": str(part("qwen2"))},
        "tuner": {"name": "lora", "r": 2},
        "scheme": {"name": "speech_only", "num_train_epochs": 1},
        "train": {"groups": ["audio_encoder", "connector", "llm.attention"], "save_steps": 100, "bf16": False},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    run = train(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run", quiet=True)
    info = json.loads(run.info.read_text())
    assert info["model"]["encoder"]["source"] == str(part("wav2vec2"))
    assert "not stated" in info["licences"].values()
    _, model = load_run(run.root)
    trained = [name for name, p in model.module.named_parameters() if "lora_B" in name and p.abs().sum() > 0]
    for where in ("audio_encoder", "connector", "self_attn"):
        assert any(where in name for name in trained), where
