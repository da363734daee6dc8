"""Language and vision models of any size with random weights: real architectures, verdicts that mean nothing.

What batching, sharing and memory cost can be measured and proven on them; what a model is worth cannot. They are made
here for the benchmarks and the tests, in a folder of theirs, and never stand among a house's models.
"""
# gguf's types are partial.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import tokenizers
from numpy.typing import NDArray

_END, _START, _STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_CONTROL = (_END, _START, _STOP)
_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_COMMON = """
    a about after all an and answer any are as at be before but by can day does for from good had has have he her
    him his how i image in is it its judge just know like long made make man many me more my new no not now of old on
    one only or other our out over people person picture policy prohibited question read same say see she show shows
    small so some text than that the their them then there these they this time to two under up us very was way we
    well were what when where which who will with word words work world year yes you young your Yes No Text Is Does
"""


class TextShape(msgspec.Struct, frozen=True):
    """A Qwen3-like decoder."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    context: int = 32768
    tied: bool = True
    """One matrix for words in and words out."""


class TowerShape(msgspec.Struct, frozen=True):
    """A SigLIP tower and a projector of two layers."""

    width: int
    layers: int
    heads: int
    inner: int
    side: int
    patch: int

    @property
    def image_tokens(self) -> int:
        return (self.side // self.patch) ** 2


def words(seed: int = 7, count: int = 1200) -> list[str]:
    """Common words and made-up ones: what the vocabulary is learned from and requests are made of."""
    chance = random.Random(seed)  # noqa: S311 a repeatable choice is meant
    found: dict[str, None] = dict.fromkeys(_COMMON.split())
    while len(found) < count:
        syllables = range(chance.choice((1, 2, 2, 3)))
        found["".join(chance.choice("bcdfghklmnprstvw") + chance.choice("aeiou") for _ in syllables)] = None
    return list(found)


def text_model(path: Path, shape: TextShape, *, kind: str = "F32", seed: int = 7) -> None:
    """Writes a GGUF with the vocabulary and the template inside. `kind` is F32, F16 or Q8_0."""
    writer = gguf.GGUFWriter(str(path), "qwen3")
    writer.add_name("random weights, for measuring only")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    _add_vocabulary(writer, shape.vocabulary)
    _write(writer, list(_text_tensors(shape)), kind, seed)


def projector(path: Path, shape: TowerShape, text_width: int, *, kind: str = "F32", seed: int = 7) -> None:
    """Writes the mmproj GGUF that goes with a text model of `text_width`.

    janus_pro is the kind that needs no special tokens in the text model: idefics3, for one, aborts the process without.
    """
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("janus_pro")
    writer.add_vision_image_size(shape.side)
    writer.add_vision_patch_size(shape.patch)
    writer.add_vision_embedding_length(shape.width)
    writer.add_vision_feed_forward_length(shape.inner)
    writer.add_vision_block_count(shape.layers)
    writer.add_vision_head_count(shape.heads)
    writer.add_vision_projection_dim(text_width)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    _write(writer, list(_tower_tensors(shape, text_width)), kind, seed)


def _text_tensors(shape: TextShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, rows first. One dimension: a norm or a bias."""
    attention, kv = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    yield "token_embd.weight", (shape.vocabulary, shape.width)
    yield "output_norm.weight", (shape.width,)
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, shape.width)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", (shape.width,)
        yield f"{block}.attn_q.weight", (attention, shape.width)
        yield f"{block}.attn_k.weight", (kv, shape.width)
        yield f"{block}.attn_v.weight", (kv, shape.width)
        yield f"{block}.attn_output.weight", (shape.width, attention)
        yield f"{block}.attn_q_norm.weight", (shape.head_width,)
        yield f"{block}.attn_k_norm.weight", (shape.head_width,)
        yield f"{block}.ffn_norm.weight", (shape.width,)
        yield f"{block}.ffn_gate.weight", (shape.inner, shape.width)
        yield f"{block}.ffn_up.weight", (shape.inner, shape.width)
        yield f"{block}.ffn_down.weight", (shape.width, shape.inner)


def _tower_tensors(shape: TowerShape, text_width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    def layer(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (shape.width,)
        yield f"{name}.bias", (shape.width,)

    yield "v.patch_embd.weight", (shape.width, 3, shape.patch, shape.patch)
    yield "v.patch_embd.bias", (shape.width,)
    yield "v.position_embd.weight", (shape.image_tokens, shape.width)
    for index in range(shape.layers):
        block = f"v.blk.{index}"
        yield from norm(f"{block}.ln1")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from layer(f"{block}.{name}", shape.width, shape.width)
        yield from norm(f"{block}.ln2")
        yield from layer(f"{block}.ffn_up", shape.inner, shape.width)
        yield from layer(f"{block}.ffn_down", shape.width, shape.inner)
    yield from norm("v.post_ln")
    yield from layer("mm.0", text_width, shape.width)
    yield from layer("mm.1", text_width, text_width)


def _write(writer: gguf.GGUFWriter, tensors: list[tuple[str, tuple[int, ...]]], kind: str, seed: int) -> None:
    """One tensor in memory at a time: 8 billion weights are written on a machine that could not hold them."""
    chance = np.random.default_rng(seed)
    pool = _Pool(chance)
    kinds: list[str] = []
    for name, shape in tensors:
        chosen = "F32" if len(shape) == 1 or "position" in name else "F16" if len(shape) == 4 else kind
        kinds.append(chosen)
        count = int(np.prod(shape))
        if chosen == "Q8_0":
            packed = (*shape[:-1], shape[-1] // 32 * 34)
            size, quantized = count // 32 * 34, gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), size, raw_dtype=quantized)
        else:
            dtype = np.dtype(np.float16 if chosen == "F16" else np.float32)
            writer.add_tensor_info(name, shape, dtype, count * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (name, shape), chosen in zip(tensors, kinds, strict=True):
        writer.write_tensor_data(pool.tensor(name, shape, chosen))
    writer.close()


class _Pool:
    """A few million random numbers, dealt again and again from different places: drawing 8 billion takes minutes."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._chance = chance
        self._normal = chance.standard_normal(1 << 20, dtype=np.float32)
        self._bytes = chance.integers(-127, 128, 1 << 22, dtype=np.int8)

    def tensor(self, name: str, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
        if len(shape) == 1:
            is_bias = name.endswith(".bias")
            return self._deal(self._normal, shape[0]) * np.float32(0.02) + np.float32(0.0 if is_bias else 1.0)
        # The spread that keeps a layer's output as large as its input.
        spread = float(np.prod(shape[1:])) ** -0.5
        if kind == "Q8_0":
            blocks = np.empty((int(np.prod(shape)) // 32, 34), np.uint8)
            blocks[:, :2] = np.frombuffer(np.float16(spread / 73.3).tobytes(), np.uint8)  # 73.3: of -127…127
            blocks[:, 2:] = self._deal(self._bytes, blocks.shape[0] * 32).view(np.uint8).reshape(-1, 32)
            return blocks.reshape(*shape[:-1], -1)
        values = self._deal(self._normal, int(np.prod(shape))).reshape(shape) * np.float32(spread)
        return values.astype(np.float16) if kind == "F16" else values

    def _deal(self, pool: NDArray[Any], count: int) -> NDArray[Any]:
        start = int(self._chance.integers(len(pool)))
        return np.resize(np.roll(pool, start), count)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """A byte-level BPE that knows the words of `words`, filled up to the size with entries that no text contains."""
    learned = tokenizers.Tokenizer(tokenizers.models.BPE())
    learned.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    room = size - len(_CONTROL)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=min(room, 4000),
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    listed = [*_COMMON.split() * 20, *words()]  # often enough for each common word to become one entry
    learned.train_from_iterator([word for each in listed for word in (each, f" {each}")], trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges: list[list[str]] = model["merges"]
    entries = sorted(vocabulary, key=lambda entry: vocabulary[entry])
    unused = [f"[unused{number}]" for number in range(room - len(entries))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*entries, *unused, *_CONTROL])
    types = gguf.TokenType
    writer.add_token_types(
        [types.NORMAL] * len(entries) + [types.UNUSED] * len(unused) + [types.CONTROL] * len(_CONTROL)
    )
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(size - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)
