"""A packed sentence embedding as it is written out: the graph against the same sums by hand, and its tokenizer."""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from appliance.inference import packed
from appliance.inference.onnx import Session

HIDDEN, HEADS, INNER, WORDS, LONGEST = 32, 2, 64, 12, 16
PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁cat", -4.0), ("s", -4.5)]

Floats = NDArray[np.floating[Any]]


class Made:
    """A file of the format, with random weights, and those weights as its own engine would read them."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(5)
        self.weights: dict[str, Floats] = {}
        self._parts: dict[str, bytes] = {}
        self._q4("emb.word", WORDS, HIDDEN)
        self._f32("emb.pos", LONGEST, HIDDEN)
        self._f32("emb.type", 2, HIDDEN)
        for name in ("emb.ln", "l0.aln", "l0.oln"):
            self._f32(f"{name}.w", HIDDEN)
            self._f32(f"{name}.b", HIDDEN)
        for name, outs, ins in (
            *((f"l0.{part}", HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
            ("l0.fi", INNER, HIDDEN),
            ("l0.fo", HIDDEN, INNER),
        ):
            self._q4(f"{name}.w", outs, ins)
            self._f32(f"{name}.b", outs)

    def file(self, leave_out: str = "") -> bytes:
        head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, HEADS, INNER, WORDS, LONGEST, 2, 1e-12, 32)
        blob = b"".join(piece.encode() for piece, _ in PIECES)
        ends = np.cumsum([0, *(len(piece.encode()) for piece, _ in PIECES)])
        head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + ends.astype("<u4").tobytes()
        head += np.array([score for _, score in PIECES], "<f4").tobytes() + blob
        folding = struct.pack("<IB", 9, 1) + struct.pack("<I", 32)
        head += struct.pack("<iI", 1, len(folding)) + folding
        kept = {name: part for name, part in self._parts.items() if name != leave_out}
        offset = len(head) + 4 + sum(2 + len(name) + 21 for name in kept)
        listed = struct.pack("<i", len(kept))
        for name, part in kept.items():
            listed += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, offset, len(part))
            offset += len(part)
        return head + listed + b"".join(kept.values())

    def encoded(self, ids: list[int]) -> Floats:
        """The last hidden state, by hand."""
        w = self.weights
        state = w["emb.word"][ids] + w["emb.pos"][: len(ids)] + w["emb.type"][0]
        state = self._normed(state, "emb.ln")
        width = HIDDEN // HEADS
        q, k, v = (state @ w[f"l0.{part}.w"].T + w[f"l0.{part}.b"] for part in "qkv")
        seen = np.empty_like(state)
        for head in range(HEADS):
            own = slice(head * width, (head + 1) * width)
            alike = np.exp(q[:, own] @ k[:, own].T / math.sqrt(width))
            seen[:, own] = alike / alike.sum(axis=1, keepdims=True) @ v[:, own]
        state = self._normed(state + seen @ w["l0.ao.w"].T + w["l0.ao.b"], "l0.aln")
        inner = state @ w["l0.fi.w"].T + w["l0.fi.b"]
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return self._normed(state + inner @ w["l0.fo.w"].T + w["l0.fo.b"], "l0.oln")

    def _normed(self, state: Floats, name: str) -> Floats:
        middle = state - state.mean(axis=1, keepdims=True)
        scale = np.sqrt((middle**2).mean(axis=1, keepdims=True) + 1e-12)
        return middle / scale * self.weights[f"{name}.w"] + self.weights[f"{name}.b"]

    def _f32(self, name: str, *shape: int) -> None:
        self.weights[name] = self._draw.normal(0, 0.5, shape).astype("<f4")
        self._parts[name] = self.weights[name].tobytes()

    def _q4(self, name: str, outs: int, ins: int) -> None:
        each = self._draw.integers(0, 16, (outs, ins // 32, 32), np.uint8)
        scales = self._draw.uniform(0.01, 0.1, (outs, ins // 32)).astype("<f2")
        nibbles = each[..., :16] | (each[..., 16:] << 4)
        self._parts[name] = b"".join(
            scale.tobytes() + block.tobytes()
            for row, blocks in zip(scales, nibbles, strict=True)
            for scale, block in zip(row, blocks, strict=True)
        )
        self.weights[name] = ((each.astype(np.float32) - 8) * scales[..., None].astype(np.float32)).reshape(outs, ins)


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def test_the_graph_gives_what_the_weights_give_by_hand(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(packed.to_onnx(made.file()))
    session = Session(path, threads=1)
    texts = [[0, 5, 6, 2], [0, 4, 2]]
    ids = np.array([texts[0], [*texts[1], 1]], np.int64)
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int64)
    [found] = session.run({"input_ids": ids, "attention_mask": mask})
    session.close()
    for row, text in enumerate(texts):
        by_hand = made.encoded(text)
        ours = found[row, : len(text)]
        alike = (ours * by_hand).sum() / np.linalg.norm(ours) / np.linalg.norm(by_hand)
        assert alike > 0.999, "what it is multiplied by is brought to 8 bits"


def test_the_same_file_gives_the_same_bytes(made: Made) -> None:
    assert packed.to_onnx(made.file()) == packed.to_onnx(made.file())
    assert packed.to_tokenizer(made.file()) == packed.to_tokenizer(made.file())


def test_the_tokenizer_reads_pieces_between_a_first_and_a_last_token(made: Made) -> None:
    tokenizer = Tokenizer.from_str(packed.to_tokenizer(made.file()).decode())
    assert tokenizer.encode("").ids == [0, 2]
    assert tokenizer.encode("cats").tokens == ["<s>", "▁cat", "s", "</s>"]
    assert tokenizer.encode("ｃａｔ  cat\u0007").tokens == ["<s>", "▁cat", "▁cat", "</s>"]


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda made: b"GGUF" + made.file()[4:], "does not begin with E5S1"),
        (lambda made: made.file()[:40], "not as its format says"),
        (lambda made: made.file()[:-100], "ends before"),
        (lambda made: made.file(leave_out="l0.k.w"), "l0.k.w is missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(made: Made, spoilt: Callable[[Made], bytes], said: str) -> None:
    with pytest.raises(packed.PackedError, match=said):
        packed.to_onnx(spoilt(made))
