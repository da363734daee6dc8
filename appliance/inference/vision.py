"""The vision judge: N yes-or-no questions about one picture for little more than the price of one.

The picture is encoded once and prefilled into one sequence; the questions are sequences that go on from it, read in one
decode. Where questions begin with the same words, those words too are read once. The verdict of each is the log-odds of
the yes and no tokens where its answer would begin.
"""
# mtmd's functions are ctypes declarations whose handles are plain ints: what crosses is checked here and nowhere else.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportArgumentType=false

import contextlib
import ctypes
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.mtmd_cpp as mtmd
from llama_cpp.llama_cpp import llama_pos

from appliance.errors import Misconfigured, ModelRefused
from appliance.inference.judge import NO_VERDICT, Ballot, judge_of
from appliance.inference.llama_core import Batch, Engine, device_of, listening, memory_of
from appliance.inference.manifest import Judge, Manifest
from appliance.inference.runtime import ImageItem, digest_of
from appliance.inference.wire import Answer, Pixels, Question
from appliance.settings import Settings

SYSTEM = "Look at the image and answer the question with {yes} or {no}."

_OPENING, _PICTURE, _FIRST_QUESTION = 0, 1, 2
"""Sequences: what stands before every picture, prefilled once; the picture; the questions."""
_QUESTIONS = 32
"""Questions in one decode; more are asked in further decodes of the same picture."""


class VisionJudge:
    """One GGUF with its mmproj that answers ImageItems. One thread at a time; see runtime.Model."""

    max_batch = 1
    """Pictures are encoded one after another, so that gathering them would only make the first one wait."""

    def __init__(self, engine: Engine, projector: "Projector", manifest: Manifest, *, digest: str) -> None:
        self._engine = engine
        self._projector = projector
        self._judge = judge_of(manifest)
        self._ballot = Ballot(engine, self._judge)
        self.digest = digest
        before, self._between, self._after = _template(engine, self._judge)
        self._opening = engine.prefill(before, _OPENING)

    @property
    def device(self) -> str:
        """The slower of the two: with the encoder on the CPU, a picture waits for it."""
        return self._engine.device if self._projector.device != "cpu" else "cpu"

    @property
    def shortfall(self) -> str:
        if self._engine.shortfall:
            return self._engine.shortfall
        return "the image encoder was not placed on it" if self._engine.on_gpu and self.device == "cpu" else ""

    @property
    def memory_bytes(self) -> int:
        return self._engine.memory_bytes + self._projector.memory_bytes

    @property
    def encodes(self) -> int:
        """How many pictures (or tiles of pictures) went through the encoder since it was opened."""
        return self._projector.encodes

    @property
    def decoded_tokens(self) -> int:
        """How many text tokens the model has read since it was opened."""
        return self._engine.decoded_tokens

    def answer(self, items: Sequence[ImageItem]) -> list[Answer]:
        """Scores each question by its id; detail holds `encodes` and `image_tokens`. Raises ModelRefused."""
        return [self._look(item) for item in items]

    def close(self) -> None:
        self._projector.close()
        self._engine.close()

    def _look(self, item: ImageItem) -> Answer:
        encodes = self._projector.encodes
        try:
            with self._projector.chunks(item.image) as chunks:
                image_tokens = int(mtmd.mtmd_helper_get_n_tokens(chunks))
                room = self._engine.context_tokens - self._opening - image_tokens - len(self._between)
                questions = [(question, self._question(question, room)) for question in item.questions]
                self._engine.lend(_OPENING, _PICTURE)
                position = self._projector.prefill(chunks, _PICTURE, self._opening)
            log_odds: dict[str, float] = {}
            while questions:
                asked = self._ask(questions, position, room)
                log_odds.update(asked)
                questions = questions[len(asked) :]
        finally:
            # Nothing of this picture stays for the next one, whatever happened.
            for sequence in range(_PICTURE, _FIRST_QUESTION + _QUESTIONS):
                self._engine.forget(sequence)
        if any(value != value for value in log_odds.values()):
            return Answer(problem=NO_VERDICT)
        return Answer(
            scores={label: self._ballot.probability(value) for label, value in log_odds.items()},
            detail={"encodes": self._projector.encodes - encodes, "image_tokens": image_tokens},
        )

    def _question(self, question: Question, room: int) -> list[int]:
        tokens = [*self._between, *self._engine.ordinary(question.text), *self._after]
        if len(tokens) > min(room, self._engine.batch_tokens):
            raise ModelRefused(
                f"the question {question.id!r} and the picture do not fit in {self._engine.context_tokens} tokens; "
                "shorten it, lower judge.image_tokens or raise inference.context_tokens",
                permanent=True,
            )
        return tokens

    def _ask(self, questions: Sequence[tuple[Question, list[int]]], position: int, room: int) -> dict[str, float]:
        """Log-odds of as many questions, from the first on, as one decode takes."""
        taken: list[list[int]] = []
        size = 0
        for _, tokens in questions[:_QUESTIONS]:
            size += len(tokens)
            if size > min(room, self._engine.batch_tokens):
                break
            self._engine.lend(_PICTURE, _FIRST_QUESTION + len(taken))
            taken.append(tokens)
        batch, at = _tree(taken, position)
        self._engine.decode(batch)
        found = {
            question.id: self._ballot.log_odds(self._engine.logits(at[index]))
            for index, (question, _) in enumerate(questions[: len(taken)])
        }
        for index in range(len(taken)):
            self._engine.forget(_FIRST_QUESTION + index)
        return found


def _tree(questions: Sequence[Sequence[int]], position: int) -> tuple[Batch, list[int]]:
    """One batch for all questions, and where each one's last token stands in it.

    A token that several questions have in common from the beginning on is one row that belongs to all their sequences.
    """
    batch = Batch()
    at = [0] * len(questions)
    branches: list[tuple[int, list[int]]] = [(0, list(range(len(questions))))]
    while branches:
        depth, members = branches.pop()
        by_token: dict[int, list[int]] = {}
        for member in members:
            by_token.setdefault(questions[member][depth], []).append(member)
        for token, sharing in by_token.items():
            going_on = [member for member in sharing if len(questions[member]) > depth + 1]
            ended = [member for member in sharing if len(questions[member]) == depth + 1]
            row = batch.add(
                [token],
                position + depth,
                tuple(_FIRST_QUESTION + member for member in sharing),
                want_last=bool(ended),
            )
            for member in ended:
                at[member] = row
            if going_on:
                branches.append((depth + 1, going_on))
    return batch, at


class Projector:
    """The image encoder that stands before a language model: pictures in, tokens of the model's own width out."""

    def __init__(self, engine: Engine, path: Path, image_tokens: int) -> None:
        """Raises Misconfigured when the file cannot be opened, or belongs to another language model."""
        self._engine = engine
        self._name = path.name
        self.encodes = 0
        model, self._context = engine.handles
        parameters = mtmd.mtmd_context_params_default()
        parameters.use_gpu = engine.on_gpu
        parameters.print_timings = False
        parameters.n_threads = engine.threads
        parameters.warmup = True  # it then says how much memory an encode takes
        if image_tokens:
            parameters.image_max_tokens = image_tokens
        with listening() as heard:
            self._encoder: Any = mtmd.mtmd_init_from_file(os.fsencode(path), model, parameters)
        self._buffers = heard.buffers()
        if not self._encoder:
            raise Misconfigured(f"{path}: llama.cpp cannot open it beside {engine.path.name} ({heard.reason})")
        if not mtmd.mtmd_support_vision(self._encoder):
            self.close()
            raise Misconfigured(f"{path}: it takes no images")
        self._marker = bytes(mtmd.mtmd_get_marker(self._encoder) or b"")

    @property
    def device(self) -> str:
        return device_of(self._buffers)

    @property
    def memory_bytes(self) -> int:
        return memory_of(self._buffers, self.device)

    @contextlib.contextmanager
    def chunks(self, image: Pixels) -> Generator[Any]:
        """The picture cut and resized as the model wants it, between the tokens that the model puts around it."""
        if image.width < 1 or image.height < 1 or len(image.rgb) != image.width * image.height * 3:
            raise ModelRefused(
                f"{image.width}×{image.height} pixels do not make {len(image.rgb)} bytes of rgb", permanent=True
            )
        pixels = (ctypes.c_uint8 * len(image.rgb)).from_buffer_copy(image.rgb)
        bitmap: Any = mtmd.mtmd_bitmap_init(image.width, image.height, pixels)
        chunks: Any = mtmd.mtmd_input_chunks_init()
        try:
            text = mtmd.mtmd_input_text(
                text=self._marker, text_len=len(self._marker), add_special=False, parse_special=True
            )
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            result = mtmd.mtmd_tokenize(self._encoder, chunks, ctypes.byref(text), bitmaps, 1)
            if result != 0:
                raise ModelRefused(f"{self._name}: the image could not be prepared ({result})", permanent=True)
            yield chunks
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def prefill(self, chunks: Any, sequence: int, position: int) -> int:
        """Encodes the picture and reads it into a sequence. Returns the next position."""
        after = llama_pos(position)
        for index in range(int(mtmd.mtmd_input_chunks_size(chunks))):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                result = mtmd.mtmd_helper_eval_chunk_single(
                    self._encoder,
                    self._context,
                    chunk,
                    after,
                    sequence,
                    self._engine.batch_tokens,
                    False,
                    ctypes.byref(after),
                )
            else:
                result = self._prefill_image(chunk, sequence, after)
            if result != 0:
                raise ModelRefused(f"{self._name}: the image could not be read ({result})", permanent=False)
        return int(after.value)

    def _prefill_image(self, chunk: Any, sequence: int, after: Any) -> int:
        size = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        # llama.cpp would end the process: without causal attention an image must be read in one piece.
        if mtmd.mtmd_decode_use_non_causal(self._encoder, chunk) and size > self._engine.piece_tokens:
            raise ModelRefused(
                f"{self._name}: an image of {size} tokens is read at once, and {self._engine.piece_tokens} fit; "
                "lower judge.image_tokens",
                permanent=True,
            )
        result = int(mtmd.mtmd_encode_chunk(self._encoder, chunk))
        self.encodes += 1
        if result != 0:
            return result
        encoded = mtmd.mtmd_get_output_embd(self._encoder)
        return int(
            mtmd.mtmd_helper_decode_image_chunk(
                self._encoder,
                self._context,
                chunk,
                encoded,
                after,
                sequence,
                self._engine.batch_tokens,
                ctypes.byref(after),
                mtmd.mtmd_helper_post_decode_callback(),
                None,
            )
        )

    def close(self) -> None:
        if self._encoder:
            mtmd.mtmd_free(self._encoder)
        self._encoder = None


def _template(engine: Engine, judge: Judge) -> tuple[list[int], list[int], list[int]]:
    """The tokens before the picture, between picture and question, and after the question. Raises Misconfigured."""
    picture, question = "@@the picture@@", "@@the question@@"
    system = judge.system or SYSTEM.format(yes=judge.yes, no=judge.no)
    written = engine.chat(judge.template, [("system", system), ("user", f"{picture}{question}")])
    before, found_picture, rest = written.partition(picture)
    between, found_question, after = rest.partition(question)
    if not found_picture or not found_question:
        raise Misconfigured(f"{engine.path.name}: its chat template leaves out the picture or the question")
    return (
        engine.tokenize(before, special=True, begin=True),
        engine.tokenize(between, special=True),
        engine.tokenize(after + judge.answer, special=True),
    )


def open_model(settings: Settings, manifest: Manifest, folder: Path) -> VisionJudge:
    """Opens the manifest's GGUF and the mmproj that goes with it. Raises Misconfigured with a sentence."""
    names = [file.name for file in manifest.files if file.name.endswith(".gguf")]
    towers = [name for name in names if name.startswith("mmproj")]
    texts = [name for name in names if not name.startswith("mmproj")]
    if not towers or not texts:
        raise Misconfigured(
            f"{manifest.name}: its manifest must name a .gguf file and a second that begins with mmproj"
        )
    engine = Engine(
        folder / texts[0],
        device=settings.inference.device,
        threads=settings.inference.threads,
        context_tokens=settings.inference.context_tokens,
        sequences=_FIRST_QUESTION + _QUESTIONS,
    )
    projector: Projector | None = None
    try:
        projector = Projector(engine, folder / towers[0], judge_of(manifest).image_tokens)
        return VisionJudge(engine, projector, manifest, digest=digest_of(manifest, folder))
    except BaseException:
        if projector is not None:
            projector.close()
        engine.close()
        raise
