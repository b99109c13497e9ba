"""Read a CTranslate2 Whisper file and give its weights the names that `transformers` uses.

The file is a plain list of named arrays, little-endian and unaligned (CTranslate2, binary version 6):

    uint32 binary version, string spec name, uint32 spec revision,
    uint32 count, then per array: string name, uint8 rank, uint32 x rank shape, uint8 type, uint32 bytes, data,
    uint32 count, then per alias: string alias, string name of the array it stands for,

where a string is a uint16 length and that many bytes, the last of them zero. Nothing in it can run. It is read only
from artifacts pinned by sha256, and still every length is checked before it is used.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np

from lalm.errors import UserError

if TYPE_CHECKING:
    import torch

BINARY_VERSION = 6
MAX_RANK = 4
DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


class _Reader:
    """A cursor over `data` that names the file when it would run past the end."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.offset = memoryview(data), name, 0

    def take(self, num_bytes: int, what: str) -> memoryview:
        end = self.offset + num_bytes
        if end > len(self.data):
            raise UserError(
                f"{self.name} is not a whole CTranslate2 file: {what} needs {num_bytes} bytes at offset {self.offset}, "
                f"but the file ends after {len(self.data)}."
            )
        piece = self.data[self.offset : end]
        self.offset = end
        return piece

    def number(self, code: str, what: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def string(self, what: str) -> str:
        raw = bytes(self.take(self.number("H", what), what))
        if not raw.endswith(b"\0"):
            raise UserError(f"{self.name} is damaged: {what} before offset {self.offset} is not a closed string.")
        try:
            return raw[:-1].decode("ascii")
        except UnicodeDecodeError:
            raise UserError(f"{self.name} is damaged: {what} before offset {self.offset} is not ASCII.") from None

    def array(self) -> tuple[str, np.ndarray]:
        name = self.string("the name of an array")
        rank = self.number("B", f"the rank of {name}")
        if rank > MAX_RANK:
            raise UserError(f"{self.name} is damaged: {name} has {rank} dimensions, allowed are {MAX_RANK}.")
        shape = [self.number("I", f"the shape of {name}") for _ in range(rank)]
        type_id = self.number("B", f"the type of {name}")
        num_bytes = self.number("I", f"the size of {name}")
        if type_id not in DTYPES:
            raise UserError(f"{self.name} is damaged: {name} has the unknown type {type_id}, known are {list(DTYPES)}.")
        dtype = np.dtype(DTYPES[type_id])
        if math.prod(shape) * dtype.itemsize != num_bytes:
            raise UserError(
                f"{self.name} is damaged: {name} has shape {shape} of {dtype.itemsize}-byte numbers, "
                f"but {num_bytes} bytes."
            )
        return name, np.frombuffer(self.take(num_bytes, f"the data of {name}"), dtype=dtype).reshape(shape)


def read_variables(data: bytes, name: str = "the CTranslate2 file", spec: str = "WhisperSpec") -> dict[str, np.ndarray]:
    """All arrays of the file by their CTranslate2 name, aliases included; read-only views into `data`.

    Raises UserError when the file is truncated, damaged, too long or of another version or model kind.
    """
    reader = _Reader(data, name)
    version = reader.number("I", "the version")
    if version != BINARY_VERSION:
        raise UserError(f"{name} has CTranslate2 binary version {version}, allowed is {BINARY_VERSION}.")
    found = reader.string("the model kind")
    if found != spec:
        raise UserError(f"{name} holds a {found}, expected is a {spec}.")
    reader.number("I", "the revision")
    variables = dict(reader.array() for _ in range(reader.number("I", "the number of arrays")))
    for _ in range(reader.number("I", "the number of aliases")):
        alias, target = reader.string("an alias"), reader.string("the target of an alias")
        if target not in variables:
            raise UserError(f"{name} is damaged: the alias {alias} stands for {target}, which is not in the file.")
        variables[alias] = variables[target]
    if reader.offset != len(data):
        raise UserError(f"{name} is damaged: {len(data) - reader.offset} bytes follow the last alias.")
    return variables


def _attention_names(old: str, new: str, fused: list[list[str]]) -> dict[str, tuple[str, int, int]]:
    """`fused[i]` names the projections stacked in `linear_i`; k_proj has no bias in Whisper."""
    names = {}
    for index, projections in enumerate(fused):
        for part, projection in enumerate(projections):
            for kind in ("weight", "bias"):
                if (projection, kind) != ("k_proj", "bias"):
                    names[f"{new}.{projection}.{kind}"] = (f"{old}/linear_{index}/{kind}", part, len(projections))
    return names


def whisper_names(encoder_layers: int, decoder_layers: int) -> dict[str, tuple[str, int, int]]:
    """`transformers` name -> (CTranslate2 name, which part of it, how many equal parts it is split into)."""
    names: dict[str, tuple[str, int, int]] = {}
    for kind in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            names[f"model.encoder.{conv}.{kind}"] = (f"encoder/{conv}/{kind}", 0, 1)
    names["model.decoder.embed_tokens.weight"] = ("decoder/embeddings/weight", 0, 1)
    names["proj_out.weight"] = ("decoder/projection/weight", 0, 1)
    for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        names[f"model.{side}.embed_positions.weight"] = (f"{side}/position_encodings/encodings", 0, 1)
        norms = {f"model.{side}.layer_norm": f"{side}/layer_norm"}
        for layer in range(layers):
            old, new = f"{side}/layer_{layer}", f"model.{side}.layers.{layer}"
            names |= _attention_names(
                f"{old}/self_attention", f"{new}.self_attn", [["q_proj", "k_proj", "v_proj"], ["out_proj"]]
            )
            norms[f"{new}.self_attn_layer_norm"] = f"{old}/self_attention/layer_norm"
            if side == "decoder":
                names |= _attention_names(
                    f"{old}/attention", f"{new}.encoder_attn", [["q_proj"], ["k_proj", "v_proj"], ["out_proj"]]
                )
                norms[f"{new}.encoder_attn_layer_norm"] = f"{old}/attention/layer_norm"
            for kind in ("weight", "bias"):
                names[f"{new}.fc1.{kind}"] = (f"{old}/ffn/linear_0/{kind}", 0, 1)
                names[f"{new}.fc2.{kind}"] = (f"{old}/ffn/linear_1/{kind}", 0, 1)
            norms[f"{new}.final_layer_norm"] = f"{old}/ffn/layer_norm"
        for new, old in norms.items():
            names[f"{new}.weight"], names[f"{new}.bias"] = (f"{old}/gamma", 0, 1), (f"{old}/beta", 0, 1)
    return names


def whisper_state_dict(
    variables: dict[str, np.ndarray], encoder_layers: int = 6, decoder_layers: int = 6
) -> dict[str, torch.Tensor]:
    """The float32 state dict of `WhisperForConditionalGeneration`; UserError names an array that is missing."""
    import torch

    state = {}
    for new, (old, part, num_parts) in whisper_names(encoder_layers, decoder_layers).items():
        if old not in variables:
            raise UserError(f"The CTranslate2 file lacks the array {old}, from which {new} is made.")
        whole = variables[old]
        if num_parts > 1 and (whole.ndim == 0 or whole.shape[0] % num_parts):
            raise UserError(
                f"The array {old} of shape {list(whole.shape)} does not split into {num_parts} equal parts."
            )
        piece = whole if num_parts == 1 else np.split(whole, num_parts)[part]
        state[new] = torch.from_numpy(piece.astype(np.float32))
    return state
