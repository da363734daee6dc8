"""Text heads: one sentence embedding, and on it a logistic regression a label. numpy is all that the heads need.

A text longer than the embedding reads is embedded in overlapping windows; of each label the highest window counts, so
nothing that stands at the end of a long text is missed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from appliance.errors import Misconfigured
from appliance.inference.manifest import Manifest
from appliance.inference.onnx import Session
from appliance.inference.runtime import digest_of
from appliance.inference.wire import Answer
from appliance.settings import Settings

MODEL, TOKENIZER, HEADS = "model.onnx", "tokenizer.json", "heads.json"

_Floats = NDArray[np.floating[Any]]

_TOGETHER = 32  # windows in one run: 32 of 256 tokens hold 150 MB in attention and activations
_OVERLAP = 4  # a window shares this part of itself, a quarter, with the next


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """P(label) = 1 ÷ (1 + exp(−(weights · embedding + bias))), calibration included."""

    weights: list[float]
    bias: float


class Heads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """heads.json: what `customhouse train heads` writes."""

    labels: dict[str, Head]


class Embedder:
    """Texts → unit vectors, one a window. `before` stands before every window, where the embedding learnt it so."""

    def __init__(
        self, folder: Path, device: str = "cpu", threads: int = 0, max_tokens: int = 256, before: str = ""
    ) -> None:
        self.session = Session(folder / MODEL, device, threads)
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise Misconfigured(f"{folder / TOKENIZER}: not a tokenizer ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        empty = self._tokenizer.encode("").ids
        if len(empty) != 2:
            raise Misconfigured(f"{folder / TOKENIZER}: expected one token before a text and one after it")
        self._begin, self._end = [empty[0], *self._tokens(before)], [empty[1]]
        self._room = max_tokens - len(self._begin) - len(self._end)

    @classmethod
    def of(cls, manifest: Manifest, folder: Path, device: str = "cpu", threads: int = 0) -> Self:
        """As the manifest says that it reads."""
        said = manifest.parameters
        return cls(folder, device, threads, int(said.get("max_tokens", 256)), str(said.get("before", "")))

    def windows(self, text: str) -> list[list[int]]:
        """The text's tokens in windows that overlap, each as the model takes it. Never empty."""
        whole = self._tokens(text)
        step = self._room - self._room // _OVERLAP
        starts = range(0, max(1, len(whole) - self._room // _OVERLAP), step)
        return [[*self._begin, *whole[start : start + self._room], *self._end] for start in starts]

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """A vector for every window of every text, and the index of the text that each belongs to."""
        windows: list[list[int]] = []
        owners: list[int] = []
        for index, text in enumerate(texts):
            for window in self.windows(text):
                windows.append(window)
                owners.append(index)
        vectors = np.empty((len(windows), 0), np.float32)
        by_length = sorted(range(len(windows)), key=lambda index: len(windows[index]))  # the least padding
        for begin in range(0, len(by_length), _TOGETHER):
            chosen = by_length[begin : begin + _TOGETHER]
            found = self._run([windows[index] for index in chosen])
            if not begin:
                vectors = np.empty((len(windows), found.shape[1]), np.float32)
            vectors[chosen] = found
        return vectors, np.array(owners, np.intp)

    def close(self) -> None:
        self.session.close()

    def _tokens(self, text: str) -> list[int]:
        # a lone surrogate, which JSON may carry, is no text to the tokenizer
        return self._tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids

    def _run(self, windows: Sequence[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(windows), max(map(len, windows))), np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self.session.run({port.name: feeds[port.name] for port in self.session.inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        mean: _Floats = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


class TextHeads:
    """Texts → P of every label, with the number of windows as detail. See runtime.Model."""

    def __init__(self, manifest: Manifest, folder: Path, device: str, threads: int, max_batch: int) -> None:
        heads = read_heads(folder / HEADS)
        self.digest = digest_of(manifest, folder)
        self._embedder = Embedder.of(manifest, folder, device, threads)
        self.labels = list(heads.labels)
        self._weights = np.array([head.weights for head in heads.labels.values()], np.float32)
        self._bias = np.array([head.bias for head in heads.labels.values()], np.float32)
        session = self._embedder.session
        size = session.outputs[0].shape[-1]
        if size != self._weights.shape[1]:
            self._embedder.close()
            raise Misconfigured(
                f"{folder / HEADS}: made for vectors of {self._weights.shape[1]}, but {MODEL} gives {size}; "
                "make it anew with: customhouse train heads"
            )
        self.device, self.shortfall, self.memory_bytes = session.device, session.shortfall, session.memory_bytes
        self.max_batch = max_batch

    def answer(self, items: Sequence[str]) -> list[Answer]:
        vectors, owners = self._embedder.embed(items)
        # a sum and not a matrix product, whose last bits depend on how many rows there are: the same text gets the same
        # score whoever its neighbours are
        logits = np.stack([(vectors * weights).sum(axis=1) for weights in self._weights], axis=1) + self._bias
        answers: list[Answer] = []
        for index in range(len(items)):
            own = logits[owners == index]
            scores = 1.0 / (1.0 + np.exp(-own.max(axis=0).astype(np.float64)))
            labelled = {label: float(score) for label, score in zip(self.labels, scores, strict=True)}
            answers.append(Answer(scores=labelled, detail={"windows": float(len(own))}))
        return answers

    def close(self) -> None:
        self._embedder.close()


def open_model(settings: Settings, manifest: Manifest, folder: Path) -> TextHeads:
    inference = settings.inference
    return TextHeads(manifest, folder, inference.device, inference.threads, inference.max_batch)


def read_heads(path: Path) -> Heads:
    """Raises Misconfigured when the file is none, or its heads are of different lengths."""
    try:
        heads = msgspec.json.decode(path.read_bytes(), type=Heads)
    except (OSError, msgspec.DecodeError) as error:
        raise Misconfigured(f"{path}: {error}; make it anew with: customhouse train heads") from error
    if len({len(head.weights) for head in heads.labels.values()}) != 1:
        raise Misconfigured(f"{path}: its heads have different lengths; make it anew with: customhouse train heads")
    return heads
