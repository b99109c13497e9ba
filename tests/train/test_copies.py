"""Changed copies of training recordings: beside the budget, made once, seeded, heard with altered features where asked."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from lalm import plugins
from lalm.config import load_recipe, parse_recipe, to_yaml
from lalm.data import audio
from lalm.data.pools import load_pools
from lalm.data.spec_augment import altered, changes_of
from lalm.errors import ConfigError, DataError
from lalm.study.check import check_recipe
from lalm.study.single import train
from lalm.train.copies import copies, num_copies
from lalm.train.setup import make_examples, plan

ONLY_FEATURES = {"rate_probability": 0, "reverb_probability": 0, "gain_db": [0, 0], "silence_s": [0, 0]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An LALM_HOME of one's own. As in a worker of a study copies are made here: for a few, processes take far longer."""
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    return tmp_path / "home"


def with_augment(recipe, **augment):
    values = yaml.safe_load(to_yaml(recipe))
    values["data"]["augment"] = augment
    return parse_recipe(values, Path.cwd())


def test_copies_stand_beside_the_budget_and_passes_go_over_both(recipe, home):
    plain = load_pools(recipe.data)
    more = with_augment(recipe, copies=2)
    pools = load_pools(more.data)
    assert [row.id for row in pools.speech] == [row.id for row in plain.speech], "the budget is one of recordings"
    before, after = make_examples(recipe, plain), make_examples(more, pools)
    number = len(plain.speech)
    assert after["text"] == before["text"]
    assert after["speech"][:number] == before["speech"]
    assert [row.id for row in after["speech"][number:]] == [f"{r.id}.copy{n}" for n in (1, 2) for r in plain.speech]
    assert [row.answer for row in after["speech"][number:]] == 2 * [row.answer for row in before["speech"]]
    assert num_copies(more.data, pools) == 2 * number
    assert num_copies(recipe.data, plain) == 0
    assert [stage.passes for stage in plan(more, after)] == [stage.passes for stage in plan(recipe, before)]
    for row, copy in zip(before["speech"], after["speech"][number:], strict=False):
        assert copy.audio.is_relative_to(home / "cache" / "copies")
        assert not np.array_equal(audio.load(row.audio), audio.load(copy.audio))


def test_copies_are_made_once_and_the_same_again(recipe, home):
    more = with_augment(recipe, copies=2, telephone_probability=0.5)
    pools = load_pools(more.data)
    first = [row.audio for row in copies(more.data, pools)["speech"]]
    content = [path.read_bytes() for path in first]
    times = [path.stat().st_mtime_ns for path in first]
    assert [row.audio for row in copies(more.data, pools)["speech"]] == first
    assert [path.stat().st_mtime_ns for path in first] == times
    for path in first:
        path.unlink()
    assert [row.audio.read_bytes() for row in copies(more.data, pools)["speech"]] == content, "same seed, same bytes"
    fewer = with_augment(recipe, copies=1, telephone_probability=0.5)
    assert [row.audio for row in copies(fewer.data, pools)["speech"]] == first[: len(first) // 2], (
        "the first copies stay"
    )
    for other in ({"seed": 1}, {"gain_db": [-3, 0]}, {"spec_augment": {}}):
        changed = with_augment(recipe, copies=2, **{"telephone_probability": 0.5, **other})
        assert not {row.audio for row in copies(changed.data, pools)["speech"]} & set(first)


def test_either_source_or_both(recipe, home):
    pools = load_pools(recipe.data)
    pools = replace(pools, synthetic=[replace(row, id=f"t{row.id}", source="synthetic") for row in pools.speech[:2]])
    for sources, counts in ((["recorded"], (4, 0)), (["synthetic"], (0, 2)), (["recorded", "synthetic"], (4, 2))):
        made = copies(with_augment(recipe, sources=sources).data, pools)
        assert (len(made["speech"]), len(made["synthetic"])) == counts


def test_noise_is_from_the_folder_and_a_new_file_there_makes_copies_anew(recipe, home, tmp_path):
    folder = tmp_path / "noise"
    folder.mkdir()
    soundfile.write(folder / "hum.flac", 0.2 * np.sin(np.arange(48_000) * 0.01), 16_000)
    more = with_augment(recipe, noise_folder=str(folder), noise_probability=1, snr_db=[0, 0], **ONLY_FEATURES)
    pools = load_pools(more.data)
    noisy = copies(more.data, pools)["speech"]
    row = pools.speech[0]
    added = audio.load(noisy[0].audio) - audio.load(row.audio)
    spectrum = np.abs(np.fft.rfft(added))
    assert np.argmax(spectrum) * 16_000 / len(added) == pytest.approx(
        0.01 / (2 * np.pi) * 16_000, abs=16_000 / len(added)
    )
    soundfile.write(folder / "more.flac", 0.2 * np.sin(np.arange(48_000) * 0.02), 16_000)
    assert not {row.audio for row in copies(more.data, pools)["speech"]} & {row.audio for row in noisy}
    with pytest.raises(DataError, match="there is no such folder"):
        copies(with_augment(recipe, noise_folder=str(tmp_path / "nowhere")).data, pools)


def test_recordings_that_cannot_be_changed_are_all_listed(recipe, home, tmp_path):
    soundfile.write(tmp_path / "silent.flac", np.zeros(8000), 16_000)
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "hum.flac", 0.2 * np.sin(np.arange(48_000) * 0.01), 16_000)
    more = with_augment(recipe, noise_folder=str(tmp_path / "noise"), noise_probability=1, silence_s=[0, 0])
    pools = load_pools(more.data)
    silent = [replace(row, audio=tmp_path / "silent.flac") for row in pools.speech[:2]]
    with pytest.raises(DataError, match=r"2 recordings cannot be changed as data\.augment asks for") as caught:
        copies(more.data, replace(pools, speech=[*silent, *pools.speech[2:]]))
    assert caught.value.problems == tuple(
        f"row '{row.id}': is silent from beginning to end, so no ratio of speech to noise is defined." for row in silent
    )


def test_a_run_says_what_it_heard(recipe, home, tmp_path):
    more = with_augment(recipe, copies=1, spec_augment={}, tera={"time_width": 5})
    assert "copies     4, made by data.augment; passes go over recordings and copies" in check_recipe(more)
    run = train(more, tmp_path / "run", quiet=True)
    info = json.loads(run.info.read_text())
    assert (info["num_speech"], info["num_copies"]) == (4, 4)
    saved = load_recipe(run.recipe)
    assert saved == more
    assert yaml.safe_load(run.recipe.read_text())["data"]["augment"]["tera"]["masked_probability"] == 0.8


def test_mistakes_in_the_section_are_named_with_their_place(recipe):
    def said(**augment):
        with pytest.raises(ConfigError) as caught:
            with_augment(recipe, **augment)
        return str(caught.value)

    assert "data.augment.copys: there is no such key. Did you mean 'copies'?" in said(copys=2)
    assert "data.augment.spec_augment.num_time_mask: there is no such key. Did you mean 'num_time_masks'?" in said(
        spec_augment={"num_time_mask": 2}
    )
    assert "data.augment.snr_db: the range goes from 20 to 5; the smaller number comes first." in said(snr_db=[20, 5])
    assert "data.augment.rate.0:" in said(rate=[0.01, 1])
    assert "data.augment.tera: masked_probability and replaced_probability together are above 1." in said(
        tera={"masked_probability": 0.95}
    )
    assert with_augment(recipe, noise_folder="n").data.augment.noise_folder == Path.cwd() / "n"


# -- what a model hears of a copy with altered features ----------------------------------------------------------------------


@pytest.fixture
def copied(recipe, home):
    """A recording and a copy of which the features alone differ."""
    more = with_augment(recipe, spec_augment={"num_time_masks": 3, "time_mask_share": 0.5}, tera={}, **ONLY_FEATURES)
    pools = load_pools(more.data)
    examples = make_examples(more, pools)["speech"]
    return examples[1], examples[1 + len(pools.speech)]


def test_a_composed_model_hears_the_altered_features(recipe, copied):
    plain, copy = copied
    assert np.array_equal(audio.load(plain.audio), audio.load(copy.audio))
    backbone = plugins.load("backbones", "smol")
    model = backbone.load(plugins.configure(backbone, recipe.backbone.options, "backbone"))
    encoder = model.module.audio_encoder
    frames, mask = encoder.frames([plain.audio, copy.audio])
    waveform = audio.load(plain.audio)
    features, _ = encoder.listening.collate(encoder.feature_extractor, [waveform], ["x"])
    change = changes_of(copy.audio)
    expected = altered(features[0].numpy(), -(-len(waveform) // 160), change)
    assert not np.array_equal(expected, features[0].numpy())
    heard, _ = encoder.hear(torch.from_numpy(expected)[None], mask[1:])
    assert torch.allclose(frames[1], heard[0], atol=1e-5)
    assert not torch.allclose(frames[0], frames[1], atol=1e-2)
    assert model.content(plain) != model.content(copy)
    first, second = model.prepared([plain.audio, copy.audio])
    assert any(not np.array_equal(first[name], second[name]) for name in first), "kept apart in the cache, too"


@pytest.mark.parametrize("name", ["qwen2_audio", "voxtral", "qwen3_asr"])
def test_a_native_model_hears_the_altered_features(name, copied):
    plain, copy = copied
    model = plugins.load("backbones", name).make_tiny(0)
    batch = model.batch([plain, copy])
    first, second = batch.features["input_features"].split(len(batch.features["input_features"]) // 2)
    num_frames = -(-len(audio.load(plain.audio)) // 160)
    whole = first.transpose(0, 1).flatten(1).numpy()
    expected = altered(whole, num_frames, changes_of(copy.audio))
    assert np.array_equal(second.transpose(0, 1).flatten(1).numpy(), expected)
    assert not np.array_equal(whole, expected)
    assert model.content(plain) != model.content(copy)


def test_windows_of_a_long_recording_are_altered_as_one(tmp_path, copied):
    model = plugins.load("backbones", "audio_flamingo3").make_tiny(0)
    clip = 0.1 * np.random.default_rng(0).standard_normal(35 * 16_000).astype(np.float32)
    audio.write_flac(tmp_path / "plain.flac", clip, 16_000)
    audio.write_flac(tmp_path / "copy.flac", clip, 16_000, audio.comment_of(copied[1].audio))
    rows = [
        replace(copied[0], audio=tmp_path / "plain.flac"),
        replace(copied[1], audio=tmp_path / "copy.flac"),
        copied[0],
    ]
    features = model.batch(rows).features["input_features"]
    assert features.shape[0] == 5
    plain, copy = (features[start : start + 2].transpose(0, 1).flatten(1).numpy() for start in (0, 2))
    assert np.array_equal(copy, altered(plain, 3500, changes_of(tmp_path / "copy.flac")))
    assert np.array_equal(copy[:, 3500:], plain[:, 3500:])


def test_an_encoder_without_mel_features_says_so(tmp_path, copied):
    from tiny_parts import make_encoder
    from transformers import AutoFeatureExtractor, AutoModel

    from lalm.backbones._encoders import hearing

    folder = make_encoder("hubert", tmp_path / "hubert")
    encoder = hearing(AutoModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder))
    encoder.frames([copied[0].audio])
    with pytest.raises(DataError, match=r"spec_augment and tera alter mel features, and this encoder hears samples"):
        encoder.frames([copied[1].audio])
