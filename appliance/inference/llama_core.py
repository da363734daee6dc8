"""llama.cpp's room: one open GGUF with one context, typed. What is asked of it stands in llama.py and vision.py.

Everything goes through the low-level functions. The stock `Llama` class resets or re-reads its cache between calls;
here many sequences live in one cache, and one that holds a prompt's prefix lends its cells to the ones that go on
from it.
"""
# llama_cpp's functions are ctypes declarations whose handles are plain ints: what crosses is checked here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateUsage=false

import contextlib
import ctypes
import gc
import os
import re
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import Misconfigured, ModelRefused

# Said before libgomp is loaded, which reads it then. llama.cpp's threads wait for one another hundreds of times a
# token; by default they spin, and beside other load keep the one they wait for from running. One token and 128 tokens
# of the 135M model on 2 cores: alone 7 ms and .29 s; beside 2 busy processes 17 ms and .6 s with this, up to 940 ms and
# 6 s by default. Threads that sleep at once (OMP_WAIT_POLICY=passive) take 20 ms a token when alone.
os.environ.setdefault("GOMP_SPINCOUNT", "200")

import llama_cpp.llama_cpp as lib
import llama_cpp.mtmd_cpp as mtmd

MAX_SEQUENCES = int(lib.llama_max_parallel_sequences())
_ERROR_LEVEL = 4
"""ggml's; 1 debug, 2 info, 3 warning."""
_BUFFER = re.compile(r"(\S+) +(?:model|KV|RS|compute|output) buffer size *= *([\d.]+) MiB")
_TOWER = re.compile(r"CLIP using (\S+) backend")
_TOWER_SIZE = re.compile(r"load_hparams: model size: *([\d.]+) MiB")
_PER_THREAD = threading.local()


@lib.llama_log_callback
def _hear(level: int, text: bytes, _data: object) -> None:
    """llama.cpp talks to stderr by default. Here it is heard only by the thread that opens a model, for its reasons."""
    heard: list[tuple[int, str]] | None = getattr(_PER_THREAD, "heard", None)
    if heard is not None:
        heard.append((level, text.decode(errors="replace").strip()))


_backend_lock = threading.Lock()
_backend_ready = False


def _prepare_backend() -> None:
    global _backend_ready
    with _backend_lock:
        if not _backend_ready:
            lib.llama_log_set(_hear, ctypes.c_void_p(0))
            mtmd.mtmd_log_set(_hear, ctypes.c_void_p(0))
            mtmd.mtmd_helper_log_set(_hear, ctypes.c_void_p(0))
            lib.llama_backend_init()
            _backend_ready = True


class Heard:
    """What llama.cpp said while something was opened: the reasons of a failure, and where it put how much memory."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        self._lines = lines

    @property
    def reason(self) -> str:
        """Its first words of error; the later ones only say that the caller of the caller failed too."""
        return next((text for level, text in self._lines if level == _ERROR_LEVEL and text), "no reason given")

    def buffers(self) -> dict[str, int]:
        """Bytes by backend (`CPU`, `CPU_Mapped`, `CUDA0`): the sizes it allocated, as it tells them one by one."""
        sizes: dict[str, int] = {}
        tower = "CPU"
        for _, text in self._lines:
            if found := _TOWER.search(text):
                tower = found[1]
            elif found := _TOWER_SIZE.search(text):
                sizes[tower] = sizes.get(tower, 0) + _bytes(found[1])
            elif found := _BUFFER.search(text):
                sizes[found[1]] = sizes.get(found[1], 0) + _bytes(found[2])
        return sizes


def _bytes(mebibytes: str) -> int:
    return int(float(mebibytes) * 1024 * 1024)


@contextlib.contextmanager
def listening() -> Generator[Heard]:
    """Collects what llama.cpp says on this thread."""
    lines: list[tuple[int, str]] = []
    _PER_THREAD.heard = lines
    try:
        yield Heard(lines)
    finally:
        _PER_THREAD.heard = None


class Batch:
    """Tokens for one decode. Each stands at a position of one or of several sequences; some are asked for logits."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.sequences: list[tuple[int, ...]] = []
        self.wanted: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, tokens: Sequence[int], start: int, sequences: tuple[int, ...], *, want_last: bool = False) -> int:
        """Appends `tokens` from position `start` on. Returns the index of the last one, to read its logits by."""
        self.tokens.extend(tokens)
        self.positions.extend(range(start, start + len(tokens)))
        self.sequences.extend([sequences] * len(tokens))
        if want_last:
            self.wanted.append(len(self.tokens) - 1)
        return len(self.tokens) - 1


class Engine:
    """One GGUF on one device with one context. Not thread-safe. Raises Misconfigured when the file cannot be opened."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        threads: int = 0,
        context_tokens: int = 4096,
        sequences: int = 36,
    ) -> None:
        """`device` is auto, cpu or cuda. What the GPU cannot hold is opened on the CPU, and `shortfall` says why."""
        _prepare_backend()
        self.path = path
        self.shortfall = ""
        self.threads = threads or len(os.sched_getaffinity(0))
        self.decoded_tokens = 0
        """Since opening: what the shared prefixes save can be counted."""
        self._model: Any = None
        self._context: Any = None
        wants_gpu = device != "cpu"
        if wants_gpu and not lib.llama_supports_gpu_offload():
            wants_gpu = False
            if device == "cuda" or _has_nvidia_gpu():
                self.shortfall = "llama-cpp-python here was built without CUDA; build it again with ./install.sh --cuda"
        if wants_gpu:
            try:
                self._open(context_tokens, sequences, gpu=True)
            except Misconfigured as error:
                self.shortfall = f"it could not be opened on the GPU ({error.message})"
                self._free()
        if self._context is None:
            try:
                self._open(context_tokens, sequences, gpu=False)
            except Misconfigured:
                self._free()
                raise
        if wants_gpu and not self.shortfall and not self.on_gpu and (device == "cuda" or _has_nvidia_gpu()):
            self.shortfall = "llama.cpp found no GPU that it can use"
        self._memory: Any = lib.llama_get_memory(self._context)
        self._vocabulary: Any = lib.llama_model_get_vocab(self._model)
        self.context_tokens = int(lib.llama_n_ctx(self._context))
        self.batch_tokens = int(lib.llama_n_batch(self._context))
        self.piece_tokens = int(lib.llama_n_ubatch(self._context))
        """A batch is computed in pieces of at most this many tokens."""
        self.trained_tokens = int(lib.llama_model_n_ctx_train(self._model))
        self.width = int(lib.llama_model_n_embd(self._model))
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self._vocabulary))
        self._control: dict[int, bool] = {}
        self._rows = _Rows(self.batch_tokens, sequences)

    def _open(self, context_tokens: int, sequences: int, *, gpu: bool) -> None:
        with listening() as heard:
            model_parameters = lib.llama_model_default_params()
            model_parameters.n_gpu_layers = -1 if gpu else 0
            self._model = lib.llama_model_load_from_file(os.fsencode(self.path), model_parameters)
            if not self._model:
                raise Misconfigured(f"{self.path}: llama.cpp cannot open it ({heard.reason})")
            if lib.llama_model_has_encoder(self._model) or not lib.llama_model_has_decoder(self._model):
                raise Misconfigured(f"{self.path}: not a model that answers in words (it has no plain decoder)")
            parameters = lib.llama_context_default_params()
            parameters.n_ctx = context_tokens
            parameters.n_batch = min(context_tokens, 2048)
            parameters.n_ubatch = min(context_tokens, 512)
            parameters.n_seq_max = sequences
            # One row of logits a sequence; the default would reserve one a token: 1.2 GB with 150 thousand words.
            parameters.n_outputs_max = sequences
            parameters.kv_unified = True  # llama_memory_seq_cp then only marks cells as shared
            parameters.swa_full = True  # a shared prefix must stay whole under sliding windows
            parameters.offload_kqv = gpu
            parameters.op_offload = gpu
            parameters.n_threads = parameters.n_threads_batch = self.threads
            parameters.no_perf = True
            self._context = lib.llama_init_from_model(self._model, parameters)
            if not self._context:
                raise Misconfigured(
                    f"{self.path}: no context of {context_tokens} tokens ({heard.reason}); "
                    "lower inference.context_tokens"
                )
            self._buffers = heard.buffers()

    # --- where it is --------------------------------------------------------------------------------------------------

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def device(self) -> str:
        """Where llama.cpp says it put the weights and the cache; `cpu` unless a GPU holds the greater part."""
        return device_of(self._buffers)

    @property
    def memory_bytes(self) -> int:
        return memory_of(self._buffers, self.device)

    # --- words --------------------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        """Tokens of a trusted text. `special` parses what looks like a control token; `begin` adds the model's BOS."""
        raw = text.encode("utf-8", errors="replace")
        size = len(raw) + 8
        while True:
            tokens = (lib.llama_token * size)()
            count = lib.llama_tokenize(self._vocabulary, raw, len(raw), tokens, size, begin, special)
            if count >= 0:
                return list(tokens[:count])
            size = -count

    def ordinary(self, text: str) -> list[int]:
        """Tokens of a text that is not trusted: never one that the template could use.

        llama.cpp leaves control tokens unparsed when asked, but still parses what a GGUF declares as user-defined, and
        a sentencepiece vocabulary can put a control token together from its letters. Whatever turns up nevertheless
        is taken apart: its spelling is cut in the middle and the halves are tokenised by themselves.
        """
        tokens = self.tokenize(text, special=False)
        for token in set(tokens):
            if not self.is_control(token):
                continue
            spelling = lib.llama_vocab_get_text(self._vocabulary, token).decode(errors="replace")
            if len(spelling) < 2 or spelling not in text:
                raise ModelRefused("the text cannot be told apart from the model's control tokens", permanent=True)
            middle = len(spelling) // 2
            pieces = text.split(spelling)
            cut = [spelling[middle:] + piece for piece in pieces[1:]]
            halves = [pieces[0], *cut]
            halves[:-1] = [half + spelling[:middle] for half in halves[:-1]]
            return [each for half in halves for each in self.ordinary(half)]
        return tokens

    def is_control(self, token: int) -> bool:
        """Whether a token steers the conversation rather than stands for letters."""
        if token not in self._control:
            self._control[token] = self._steers(token)
        return self._control[token]

    def _steers(self, token: int) -> bool:
        attributes = int(lib.llama_vocab_get_attr(self._vocabulary, token))
        if attributes & (lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN):
            return True
        if lib.llama_vocab_is_eog(self._vocabulary, token):
            return True
        # Some GGUFs declare their turn markers as user-defined; so are Gemma's runs of white space, which are harmless.
        spelling: bytes = lib.llama_vocab_get_text(self._vocabulary, token)
        return bool(attributes & lib.LLAMA_TOKEN_ATTR_USER_DEFINED) and spelling[:1] in b"<[" and spelling[-1:] in b">]"

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocabulary, token))

    def piece(self, token: int) -> bytes:
        """The letters of a token, as bytes: one letter may be spread over several."""
        buffer = ctypes.create_string_buffer(512)
        size = lib.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(size, 0)]

    def chat(self, template: str, messages: Sequence[tuple[str, str]]) -> str:
        """The conversation so far, written out, ending where the assistant's answer begins. Raises Misconfigured.

        `template` is `gguf` for the one inside the file, or a name that llama.cpp knows. It recognises a file's
        template rather than running it, so a file brings no code.
        """
        if template == "gguf":
            own = lib.llama_model_chat_template(self._model, None)
            if not own:
                raise Misconfigured(f"{self.path}: has no chat template; set judge.template to one of {_templates()}")
            wanted = bytes(own)
        else:
            wanted = template.encode()
        chat = (lib.llama_chat_message * len(messages))()
        for slot, (role, content) in zip(chat, messages, strict=True):
            slot.role, slot.content = role.encode(), content.encode()
        size = 4096 + 2 * sum(len(content.encode()) for _, content in messages)
        buffer = ctypes.create_string_buffer(size)
        written = lib.llama_chat_apply_template(wanted, chat, len(messages), True, buffer, size)
        if written < 0 or written > size:
            which = "its chat template" if template == "gguf" else f"the template {template!r}"
            raise Misconfigured(
                f"{self.path}: {which} is not known to llama.cpp; set judge.template to one of {_templates()}"
            )
        return buffer.raw[:written].decode()

    # --- the cache ----------------------------------------------------------------------------------------------------

    def decode(self, batch: Batch) -> None:
        """Reads the batch into the cache; `logits` then gives its logits until the next decode. Raises ModelRefused."""
        if not batch.tokens:
            return
        result = lib.llama_decode(self._context, self._rows.fill(batch))
        self.decoded_tokens += len(batch)
        if result != 0:
            reason = "its context is full" if result == 1 else f"llama.cpp answered {result}"
            raise ModelRefused(f"{self.path.name}: {len(batch)} tokens could not be read: {reason}", permanent=False)

    def prefill(self, tokens: Sequence[int], sequence: int, start: int = 0) -> int:
        """Reads tokens into a sequence, in as many decodes as it takes. Returns the next position."""
        for offset in range(0, len(tokens), self.batch_tokens):
            batch = Batch()
            batch.add(tokens[offset : offset + self.batch_tokens], start + offset, (sequence,))
            self.decode(batch)
        return start + len(tokens)

    def logits(self, index: int) -> NDArray[np.float32]:
        """The logits after token `index` of the last batch: a view, gone with the next decode."""
        pointer = lib.llama_get_logits_ith(self._context, index)
        if not pointer:
            raise ModelRefused(f"{self.path.name}: llama.cpp gave no logits", permanent=False)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def lend(self, source: int, target: int) -> None:
        """`target` goes on from where `source` stands; with the unified cache nothing is copied."""
        lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def forget(self, sequence: int) -> None:
        """Cells that no other sequence shares become free."""
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def forget_all(self) -> None:
        lib.llama_memory_clear(self._memory, False)

    @property
    def handles(self) -> tuple[Any, Any]:
        """(model, context), for mtmd."""
        return self._model, self._context

    def grammar(self, rules: str) -> "Grammar":
        return Grammar(self, self._vocabulary, rules)

    def close(self) -> None:
        self._free()
        gc.collect()
        # glibc keeps freed pages in its arenas; without the trim an unloaded model stays in the resident size.
        ctypes.CDLL(None).malloc_trim(0)

    def _free(self) -> None:
        if self._context:
            lib.llama_free(self._context)
        if self._model:
            lib.llama_model_free(self._model)
        self._context = self._model = None


class Grammar:
    """A GBNF grammar under which one text is written, token by token. `close` it."""

    def __init__(self, engine: Engine, vocabulary: Any, rules: str) -> None:
        self._engine = engine
        self._sampler: Any = lib.llama_sampler_init_grammar(vocabulary, rules.encode(), b"root")
        if not self._sampler:
            raise Misconfigured("llama.cpp cannot read the grammar of the reasons")

    def choose(self, logits: NDArray[np.float32]) -> int | None:
        """The likeliest token that the grammar allows, or None when that is the end of the text."""
        # Asking of every token costs milliseconds; nearly always one of the first few is allowed.
        for count in (1, 64, len(logits)):
            candidates = np.argpartition(logits, -count)[-count:] if count < len(logits) else np.arange(len(logits))
            allowed = self._allowed(candidates, logits)
            if allowed is not None:
                if self._engine.is_end(allowed):
                    return None
                lib.llama_sampler_accept(self._sampler, allowed)
                return allowed
        return None

    def _allowed(self, candidates: NDArray[np.intp], logits: NDArray[np.float32]) -> int | None:
        data = (lib.llama_token_data * len(candidates))()
        for slot, token in zip(data, candidates.tolist(), strict=True):
            slot.id, slot.logit = token, float(logits[token])
        array = lib.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)
        lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        best = max(range(array.size), key=lambda index: array.data[index].logit)
        return int(array.data[best].id) if array.data[best].logit != float("-inf") else None

    def close(self) -> None:
        if self._sampler:
            lib.llama_sampler_free(self._sampler)
        self._sampler = None


class _Rows:
    """The memory of a llama_batch, kept between decodes and filled by whole arrays."""

    def __init__(self, capacity: int, sequences: int) -> None:
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._count = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        self._pointer = np.zeros(capacity, np.uint64)
        self._sequences = np.zeros(capacity * 2 + sequences * sequences, np.int32)

    def fill(self, batch: Batch) -> Any:
        size = len(batch)
        self._token[:size] = batch.tokens
        self._position[:size] = batch.positions
        self._wanted[:size] = 0
        self._wanted[batch.wanted] = 1
        # Each row points at its list of sequences; rows with the same list, one after another, point at the same one.
        flat: list[int] = []
        before: tuple[int, ...] | None = None
        offset = 0
        offsets: list[int] = []
        for sequences in batch.sequences:
            if sequences is not before:
                before, offset = sequences, len(flat)
                flat.extend(sequences)
            offsets.append(offset)
        if len(flat) > len(self._sequences):
            self._sequences = np.zeros(len(flat) * 2, np.int32)
        self._sequences[: len(flat)] = flat
        self._count[:size] = [len(sequences) for sequences in batch.sequences]
        self._pointer[:size] = np.asarray(offsets, np.uint64) * 4 + self._sequences.ctypes.data
        rows = lib.llama_batch()
        rows.n_tokens = size
        rows.token = self._token.ctypes.data_as(ctypes.POINTER(lib.llama_token))
        rows.pos = self._position.ctypes.data_as(ctypes.POINTER(lib.llama_pos))
        rows.n_seq_id = self._count.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        rows.seq_id = self._pointer.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(lib.llama_seq_id)))
        rows.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        return rows


def device_of(buffers: dict[str, int]) -> str:
    """`cuda:0` when a GPU's buffers hold the greater part, else `cpu`."""
    on_gpu = {name: size for name, size in buffers.items() if re.fullmatch(r"[A-Za-z]+\d+", name)}
    if not on_gpu or sum(on_gpu.values()) * 2 < sum(buffers.values()):
        return "cpu"
    first = min(on_gpu)
    return (
        f"{first.rstrip('0123456789').lower()}:{first.lstrip('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz')}"
    )


def memory_of(buffers: dict[str, int], device: str) -> int:
    """What is held on the device; on the CPU, everything."""
    if device == "cpu":
        return sum(buffers.values())
    return sum(size for name, size in buffers.items() if re.fullmatch(r"[A-Za-z]+\d+", name))


def _has_nvidia_gpu() -> bool:
    folder = Path("/proc/driver/nvidia/gpus")
    return folder.is_dir() and any(folder.iterdir())


def _templates() -> str:
    names = (ctypes.c_char_p * 256)()
    count = lib.llama_chat_builtin_templates(names, len(names))
    return ", ".join(sorted(name.decode() for name in names[: max(count, 0)] if name))
