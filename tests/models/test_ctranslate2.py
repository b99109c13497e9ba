"""The CTranslate2 reader, against files that this test writes with its own code from a real tiny Whisper."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from lalm.errors import UserError
from lalm.models.ctranslate2 import read_variables, whisper_state_dict

TYPE_IDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def array(name: str, value: np.ndarray) -> bytes:
    head = text(name) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
    return head + struct.pack("<BI", TYPE_IDS[value.dtype.name], value.nbytes) + value.tobytes()


def write(
    variables: dict[str, np.ndarray], aliases: dict[str, str], version: int = 6, spec: str = "WhisperSpec"
) -> bytes:
    head = struct.pack("<I", version) + text(spec) + struct.pack("<I", 3)
    body = struct.pack("<I", len(variables)) + b"".join(array(name, value) for name, value in variables.items())
    tail = struct.pack("<I", len(aliases)) + b"".join(text(alias) + text(name) for alias, name in aliases.items())
    return head + body + tail


def tiny_whisper():
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=31,
        num_mel_bins=4,
        d_model=8,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_source_positions=10,
        max_target_positions=9,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=1,
        decoder_start_token_id=2,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, rounded to what the file can hold
            parameter.copy_(torch.randn_like(parameter).half().float())
    return model


def converted(model) -> dict[str, np.ndarray]:
    """The arrays that a CTranslate2 converter stores for the model: projections fused, k_proj with a zero bias."""
    state = {name: value.numpy().astype(np.float16) for name, value in model.state_dict().items()}
    out: dict[str, np.ndarray] = {"decoder/num_heads": np.array(2, dtype=np.int16)}

    def linear(new: str, *old: str) -> None:
        biases = [state.get(f"{name}.bias", np.zeros(len(state[f"{name}.weight"]), np.float16)) for name in old]
        out[f"{new}/weight"] = np.concatenate([state[f"{name}.weight"] for name in old])
        out[f"{new}/bias"] = np.concatenate(biases)

    def norm(new: str, old: str) -> None:
        out[f"{new}/gamma"], out[f"{new}/beta"] = state[f"{old}.weight"], state[f"{old}.bias"]

    for side, layers in (("encoder", 2), ("decoder", 1)):
        out[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(layers):
            new, old = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            own = f"{old}.self_attn"
            linear(f"{new}/self_attention/linear_0", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj")
            linear(f"{new}/self_attention/linear_1", f"{own}.out_proj")
            norm(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm")
            if side == "decoder":
                cross = f"{old}.encoder_attn"
                linear(f"{new}/attention/linear_0", f"{cross}.q_proj")
                linear(f"{new}/attention/linear_1", f"{cross}.k_proj", f"{cross}.v_proj")
                linear(f"{new}/attention/linear_2", f"{cross}.out_proj")
                norm(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm")
            linear(f"{new}/ffn/linear_0", f"{old}.fc1")
            linear(f"{new}/ffn/linear_1", f"{old}.fc2")
            norm(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm")
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            out[f"encoder/{conv}/{kind}"] = state[f"model.encoder.{conv}.{kind}"]
    out["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return out


TIED = {"decoder/projection/weight": "decoder/embeddings/weight"}


def small_file() -> bytes:
    variables = {
        "a/weight": np.arange(6, dtype=np.float16).reshape(2, 3),
        "flag": np.array(1, dtype=np.int8),
        "heads": np.array([[3, 1], [4, 2]], dtype=np.int16),
    }
    return write(variables, {"b/weight": "a/weight"})


def test_a_whole_whisper_comes_back_and_computes_the_same():
    import torch

    model = tiny_whisper()
    variables = read_variables(write(converted(model), TIED))
    state = whisper_state_dict(variables, encoder_layers=2, decoder_layers=1)
    expected = model.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)

    other = tiny_whisper()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    features, tokens = torch.randn(1, 4, 20), torch.tensor([[2, 5, 7]])
    with torch.no_grad():
        assert torch.equal(
            other(features, decoder_input_ids=tokens).logits, model(features, decoder_input_ids=tokens).logits
        )


def test_types_shapes_scalars_and_aliases():
    variables = read_variables(small_file())
    assert set(variables) == {"a/weight", "b/weight", "flag", "heads"}
    assert variables["a/weight"].dtype == np.float16
    assert variables["b/weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert variables["flag"].shape == ()
    assert variables["heads"].tolist() == [[3, 1], [4, 2]]


def test_every_truncation_is_a_user_error():
    whole = small_file()
    for end in range(len(whole)):
        with pytest.raises(UserError):
            read_variables(whole[:end], "model.bin")


def test_a_truncated_file_is_named_with_offset_and_length():
    with pytest.raises(UserError, match=r"model\.bin is not a whole .* ends after 50"):
        read_variables(small_file()[:50], "model.bin")


def test_damaged_bytes_never_crash_the_reader():
    whole, rng, refused = small_file(), random.Random(0), 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_variables(bytes(damaged))
        except UserError:
            refused += 1
    assert refused > 500  # damage in the numbers themselves cannot be seen here; the sha256 sees it


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (write({}, {}, version=5), "binary version 5, allowed is 6"),
        (write({}, {}, spec="TransformerSpec"), "holds a TransformerSpec"),
        (write({}, {}) + b"x", "1 bytes follow"),
        (write({}, {"b": "a"}), "stands for a, which is not in the file"),
        (write({"a": np.zeros([1] * 9, np.int8)}, {}), "9 dimensions"),
        (write({"a": np.zeros(2, np.int16)}, {}).replace(struct.pack("<BI", 2, 4), struct.pack("<BI", 9, 4)), "type 9"),
        (write({"a": np.zeros(2, np.int16)}, {}).replace(struct.pack("<BI", 2, 4), struct.pack("<BI", 0, 4)), "4-byte"),
    ],
    ids=["version", "kind", "too long", "alias", "rank", "type", "size"],
)
def test_what_is_wrong_is_said(data: bytes, message: str):
    with pytest.raises(UserError, match=message):
        read_variables(data)


def test_a_missing_array_and_one_that_does_not_split_are_named():
    variables = converted(tiny_whisper())
    with pytest.raises(UserError, match="lacks the array decoder/projection/weight"):
        whisper_state_dict(variables, 2, 1)
    variables["decoder/projection/weight"] = variables["decoder/embeddings/weight"]
    variables["encoder/layer_1/self_attention/linear_0/bias"] = np.zeros(23, np.float16)
    with pytest.raises(UserError, match=r"shape \[23\] does not split into 3"):
        whisper_state_dict(variables, 2, 1)
