"""The embedded model's folder: made once, whole or not at all, offline afterwards; then the real model itself."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lalm.errors import UserError
from lalm.models import embedded, smol
from lalm.models.fetch import Artifact, Fetched
from lalm.models.whisper import save_whisper

BARISTA = Path(__file__).parents[3] / "shared" / "data" / "barista"


class Workshop:
    """Stands in for the download and the two converters, and counts them; all the rest is real."""

    def __init__(self) -> None:
        self.fetched, self.saved = 0, 0
        self.fail: BaseException | None = None

    def fetch(self, artifact: Artifact, downloads: Path, say: object) -> Fetched:
        self.fetched += 1
        return Fetched("packages", {}, {"packages": [{"package": artifact.name}]})

    def save_speech(self, fetched: Fetched, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"speech weights")

    def save_language_model(self, fetched: Fetched, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"language weights")
        if self.fail is not None:
            raise self.fail
        self.saved += 1


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    made = Workshop()
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(embedded, "fetch", made.fetch)
    monkeypatch.setattr(smol, "save_whisper", made.save_speech)
    monkeypatch.setattr(smol, "_save_language_model", made.save_language_model)
    return made


def test_the_first_start_makes_it_and_the_second_is_silent(workshop: Workshop, capfd, tmp_path: Path):
    folder = smol.smol_folder()
    assert folder == tmp_path / "home" / "models" / "smol"
    said = capfd.readouterr()
    assert "first use" in said.err
    assert said.out == ""
    marker = json.loads((folder / "lalm.json").read_text())
    assert marker["artifacts"]["whisper-base"]["licence"] == "MIT"
    assert marker["artifacts"]["smollm2-135m-instruct"]["licence"] == "Apache-2.0"
    assert marker["sizes_bytes"] == {"language_model/model.safetensors": 16, "speech/model.safetensors": 14}
    assert {path.name for path in folder.parent.iterdir()} <= {"smol", ".smol.lock"}
    assert not (tmp_path / "home" / "downloads").exists()

    assert smol.smol_folder() == folder
    assert workshop.saved == 1
    assert capfd.readouterr() == ("", "")


def test_an_interrupted_conversion_leaves_nothing_usable_and_is_redone(workshop: Workshop, tmp_path: Path):
    workshop.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        smol.smol_folder()
    assert not (tmp_path / "home" / "models" / "smol").exists()
    workshop.fail = None
    assert (smol.smol_folder() / "lalm.json").exists()
    assert workshop.saved == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("speech/model.safetensors", b"speech", "has 6 bytes, not 14"),
        ("speech/model.safetensors", None, "is missing"),
        ("lalm.json", b'{"format": 1', "missing or unreadable"),
        ("lalm.json", b'{"format": 99, "sizes_bytes": {}}', "has format 99"),
    ],
)
def test_a_damaged_folder_is_named_and_made_anew(
    workshop: Workshop, capfd, name: str, content: bytes | None, reason: str
):
    folder = smol.smol_folder()
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    capfd.readouterr()
    smol.smol_folder()
    said = capfd.readouterr().err
    assert name in said
    assert reason in said
    assert (folder / name).read_bytes() == whole
    assert workshop.saved == 2


def test_two_starts_at_once_make_it_once(workshop: Workshop):
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(smol.smol_folder())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert workshop.saved == 1


def test_a_full_disk_is_one_paragraph(workshop: Workshop, monkeypatch, tmp_path: Path):
    workshop.fail = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match=r"No space left on device.*LALM_HOME") as caught:
        smol.smol_folder()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "home" / "models" / "smol").exists()
    small = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(UserError, match=r"0\.0 GB are free, 1\.2 GB are needed"):
        smol.smol_folder()


def test_a_home_that_is_a_file_is_a_user_error(workshop: Workshop, tmp_path: Path):
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(UserError, match="LALM_HOME"):
        smol.smol_folder()


def test_a_whole_folder_is_found_without_torch():
    code = "import sys, lalm.models.embedded as e; e.problem_of(e.lalm_home()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The real model.


def test_the_tokenizer_speaks_the_chat_format(smol_folder: Path):
    tokenizer = smol.load_tokenizer(smol_folder)
    assert len(tokenizer) == 49152
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "assistant named SmolLM" in tokenizer.apply_chat_template(messages[1:], tokenize=False)
    ids = tokenizer(rendered).input_ids
    assert ids[:2] == [1, tokenizer.convert_tokens_to_ids("system")]  # control tokens are one id, none is added
    assert ids.count(2) == 2
    assert tokenizer.decode(ids) == rendered
    # Digits stand alone, before anything else is split: two newlines before one stay one token.
    assert tokenizer.tokenize("a 12\n\n34") == ["a", "Ġ", "1", "2", "ĊĊ", "3", "4"]


def test_the_language_model_is_float32_tied_and_sensible(smol_folder: Path):
    import torch

    model, tokenizer = smol.load_language_model(smol_folder), smol.load_tokenizer(smol_folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert not hasattr(model.config, "quantization_config")
    messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer, skip_special_tokens=True)
    assert answer[-1] == tokenizer.eos_token_id


def test_the_feature_extractor_is_that_of_whisper_base(smol_folder: Path):
    import numpy as np
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    extractor = smol.load_feature_extractor(smol_folder)
    assert (extractor.feature_size, extractor.sampling_rate, extractor.n_fft, extractor.hop_length) == (
        80,
        16000,
        400,
        160,
    )
    samples = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    features = extractor(samples, sampling_rate=16000, return_tensors="np").input_features
    assert features.shape == (1, 80, 3000)
    mel = mel_filter_bank(201, 80, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    padded = np.pad(samples, (0, 480000 - 16000))
    log_mel = spectrogram(padded, window_function(400, "hann"), 400, 160, power=2.0, mel_filters=mel, log_mel="log10")[
        :, :-1
    ]
    expected = (np.maximum(log_mel, log_mel.max() - 8) + 4) / 4
    assert np.abs(features[0] - expected).max() < 1e-3


def test_whisper_is_whole_and_float32(smol_folder: Path):
    import torch

    model, tokenizer = smol.load_speech(smol_folder), smol.load_speech_tokenizer(smol_folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) == 72_593_920
    # The encoder's positions are sinusoids by definition (Radford et al. 2022), so they tell whether arrays are in place.
    from transformers.models.whisper.modeling_whisper import sinusoids

    assert torch.allclose(model.model.encoder.embed_positions.weight, sinusoids(1500, 512), atol=1e-3)
    prefix = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("").input_ids) == [*prefix, "<|endoftext|>"]
    assert model.generation_config.lang_to_id["<|fr|>"] == tokenizer.convert_tokens_to_ids("<|fr|>") == 50265
    assert len(model.generation_config.lang_to_id) == 99
    assert tokenizer.decode(tokenizer(" Café, please.").input_ids, skip_special_tokens=True) == " Café, please."


@pytest.mark.skipif(not BARISTA.is_dir(), reason="needs ../shared/data/barista: real recordings")
def test_whisper_hears_a_real_recording(smol_folder: Path):
    import soundfile

    row = json.loads((BARISTA / "recordings.jsonl").read_text(encoding="utf-8").splitlines()[1])
    samples, rate = soundfile.read(BARISTA / row["audio"], dtype="float32")
    model, tokenizer = smol.load_speech(smol_folder), smol.load_speech_tokenizer(smol_folder)
    features = smol.load_feature_extractor(smol_folder)(samples, sampling_rate=rate, return_tensors="pt").input_features
    ids = model.generate(features, language="en", task="transcribe", max_new_tokens=40)[0]
    heard = tokenizer.decode(ids, skip_special_tokens=True).lower()
    assert all(value in heard for value in row["slots"].values()), heard


def test_the_hub_files_of_whisper_give_the_same_model(smol_folder: Path, tmp_path: Path):
    """The official file holds no output projection (it is tied), as the folder's own does: so that one stands in."""
    from safetensors.torch import load_file

    speech = smol_folder / "speech"
    files = {name: speech / name for name in ("model.safetensors", "tokenizer.json")}
    save_whisper(Fetched("hub", files), tmp_path / "speech")
    made, expected = load_file(tmp_path / "speech" / "model.safetensors"), load_file(speech / "model.safetensors")
    assert set(made) == set(expected)
    assert all((made[name] == expected[name]).all() for name in expected)
    assert smol.load_speech_tokenizer(tmp_path).get_vocab() == smol.load_speech_tokenizer(smol_folder).get_vocab()
