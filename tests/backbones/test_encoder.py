"""Whisper's encoder on the frames that exist: as transformers runs it, and every clip for itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from lalm.backbones._encoder import TAIL_SILENCE_S, AudioEncoder
from lalm.backbones._tiny import tiny_whisper
from lalm.errors import DataError

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    return tiny_whisper()


@pytest.fixture(scope="module")
def encoder(whisper) -> AudioEncoder:
    return AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor())


def clip(seconds: float, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ))).astype(np.float32)


def test_a_clip_that_fills_thirty_seconds_is_encoded_as_transformers_does(encoder, whisper):
    wave = clip(30 - TAIL_SILENCE_S, 0)
    padded = np.concatenate([wave, np.zeros(int(TAIL_SILENCE_S * RATE_HZ), np.float32)])
    features = WhisperFeatureExtractor()(padded, sampling_rate=RATE_HZ, return_tensors="pt").input_features
    with torch.no_grad():
        expected = whisper.model.encoder(features).last_hidden_state
        frames, mask = encoder.encode([wave], ["clip"])
    assert mask.all()
    assert torch.allclose(frames, expected, atol=1e-4)


@pytest.mark.parametrize("taps", [None, (0,), (1, 2)])
def test_frames_do_not_depend_on_longer_clips_beside_them(whisper, taps):
    encoder = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor(), taps)
    waves = [clip(seconds, seed) for seed, seconds in enumerate((0.3, 2.2, 1.01, 0.02))]
    with torch.no_grad():
        together, mask = encoder.encode(waves, list("abcd"))
        for wave, frames, real in zip(waves, together, mask, strict=True):
            alone, all_real = encoder.encode([wave], ["one"])
            assert all_real.all()
            assert alone.shape[1] == real.sum() == -(-len(wave) // 320) + 25, "50 a second and half a second of margin"
            assert torch.allclose(frames[real], alone[0], atol=1e-5)
    assert together.shape[-1] == encoder.width * len(encoder.taps)


def test_taps_are_the_inputs_of_layers_and_the_normed_output(whisper):
    inputs = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
        for layer in whisper.model.encoder.layers
    ]
    try:
        with torch.no_grad():
            both, _ = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor(), (1, 2)).encode(
                [clip(0.5, 1)], ["a"]
            )
            last, _ = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor()).encode([clip(0.5, 1)], ["a"])
    finally:
        for hook in hooks:
            hook.remove()
    assert torch.equal(both[..., :24], inputs[1])
    assert torch.equal(both[..., 24:], last)


def test_a_clip_that_is_too_long_is_named_with_both_lengths(encoder):
    with pytest.raises(DataError, match=r"novel\.wav: 30\.1 s of audio with its margin.*at most 30 s"):
        encoder.encode([clip(1, 0), clip(29.6, 0)], ["short.wav", "novel.wav"])


def test_fingerprints_name_weights_and_taps(whisper):
    extractor = WhisperFeatureExtractor()
    first = AudioEncoder(whisper.model.encoder, extractor).fingerprint()
    assert AudioEncoder(whisper.model.encoder, extractor).fingerprint() == first
    assert AudioEncoder(whisper.model.encoder, extractor, (1,)).fingerprint() != first
    assert AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor(dither=0.5)).fingerprint() != first
    half = copy.deepcopy(whisper.model.encoder).to(torch.bfloat16)
    rounded = copy.deepcopy(half).float()
    names = {AudioEncoder(one, extractor).fingerprint() for one in (whisper.model.encoder, half, rounded)}
    assert len(names) == 3, "the same values in another number format make other frames"
    torch.manual_seed(1)
    assert AudioEncoder(tiny_whisper().model.encoder, extractor).fingerprint() != first
