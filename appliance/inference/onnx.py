"""onnxruntime's room: a typed Session, and the classifier that any manifest of runtime "onnx" describes.

The device is believed only from the session itself and from work done on it. `get_available_providers()` lists CUDA on
machines without any GPU, and a session asked for CUDA quietly falls back to the CPU.
"""
# onnxruntime ships no types for its compiled half, so what crosses it is cast here and nowhere else.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import contextlib
import ctypes
import gc
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnxruntime
import pynvml
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults  # pyright: ignore[reportAttributeAccessIssue] compiled

from appliance.errors import Misconfigured, ModelRefused
from appliance.inference import preprocess
from appliance.inference.manifest import ImageInput, Manifest
from appliance.inference.runtime import digest_of
from appliance.inference.wire import Answer, Pixels, Problem
from appliance.settings import Settings

_FAULTS: tuple[type[Exception], ...] = (
    faults.Fail,
    faults.InvalidArgument,
    faults.InvalidGraph,
    faults.InvalidProtobuf,
    faults.NoSuchFile,
    faults.NotImplemented,
    faults.RuntimeException,
    faults.EPFail,
    RuntimeError,
)
"""What onnxruntime raises; its own classes derive from Exception only."""

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes on a GPU; a batch is padded up to the next. A new shape costs CUDA a search for kernels and an arena."""
CPU_BATCH = 4
"""Pictures a thread on a CPU. More at once fall out of its cache: on 2 cores, images/s at 8, 16 and 32 in one run were
202, 192, 155 (explicit), and 101, 66, 47 (suggestive). Nor does padding pay: sizes 5 to 8 in turn gave 203, 8 gave 205.
"""


class Port(msgspec.Struct, frozen=True):
    """One input or output of a graph. None in `shape` is a dimension that may vary."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    """numpy's name of it: float32, int64."""


class Session:
    """One graph, open. `run` may be called by several threads at once; `close` gives the memory back.

    With "cuda" and "auto" it is on the GPU when that truly works, else on the CPU. `shortfall` then says why, unless
    the device is "auto" and there is no GPU. Raises Misconfigured when the file cannot be opened.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 0) -> None:
        before, free_before = _resident_bytes(), _gpu_free_bytes() if device != "cpu" else None
        session: Any = None
        self.shortfall = ""
        if device == "cuda" or free_before is not None:
            session, self.shortfall = _on_cuda(path, threads)
        self.device = "cpu" if session is None else "cuda:0"
        if session is None:
            session = _open(path, threads, ["CPUExecutionProvider"])
        self._session: Any = session
        self.providers: list[str] = list(session.get_providers())
        self.inputs: list[Port] = [_port(each) for each in session.get_inputs()]
        self.outputs: list[Port] = [_port(each) for each in session.get_outputs()]
        grown = _resident_bytes() - before
        if self.device != "cpu":
            grown = (free_before or 0) - (_gpu_free_bytes() or 0)
        # Never less than the file: other threads may give memory back while this one loads.
        self.memory_bytes: int = max(grown, path.stat().st_size)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: list[str] | None = None) -> list[NDArray[Any]]:
        """The named outputs, or all of them in the graph's order. Raises ModelRefused with onnxruntime's reason."""
        try:
            return cast(list[NDArray[Any]], self._session.run(outputs, dict(feeds)))
        except _FAULTS as error:
            raise ModelRefused(f"onnxruntime: {str(error).strip()}", permanent=False) from error

    def close(self) -> None:
        self._session = None
        gc.collect()
        # glibc keeps freed pages in its arenas; without the trim an unloaded model stays in the resident size.
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


class OnnxClassifier:
    """Pictures → scores of labels, as the manifest's [input] and [output] say. See runtime.Model."""

    def __init__(self, manifest: Manifest, folder: Path, device: str, threads: int, max_batch: int) -> None:
        if manifest.input is None or manifest.output is None or len(manifest.files) != 1:
            raise Misconfigured(f"{manifest.name}: runtime onnx needs one file, [input] and [output] in its manifest")
        preprocess.check(manifest.input, manifest.name)
        self._input = manifest.input
        self._labels = manifest.output.labels
        self._activation = manifest.output.activation
        if self._activation not in ("none", "softmax", "sigmoid"):
            raise Misconfigured(f"{manifest.name}: output.activation is {self._activation!r}; none, softmax or sigmoid")
        self.digest = digest_of(manifest, folder)
        self._session = Session(folder / manifest.files[0].name, device, threads)
        self._port = self._session.inputs[0]
        _check_graph(manifest.name, self._port, self._session.outputs[0], self._input, len(self._labels))
        self._fixed_batch = self._port.shape[0]
        self.device = self._session.device
        self.shortfall = self._session.shortfall
        self.memory_bytes = self._session.memory_bytes
        self._threads = threads or cores()
        self._hands = ThreadPoolExecutor(self._threads, thread_name_prefix="pixels")
        # A graph whose batch is fixed gets full batches, one a thread.
        most = (self._fixed_batch or CPU_BATCH) * self._threads if self.device == "cpu" else max_batch
        self.max_batch = max(min(max_batch, most), self._fixed_batch or 1)

    def answer(self, items: Sequence[Pixels]) -> list[Answer]:
        if self.device != "cpu":
            return self._answered(list(self._hands.map(self._prepare, items)))
        # Each thread prepares and asks its own part: one's preparing then fills the gaps of another's asking. One run
        # of 8 on both of 2 busy cores, against two runs of 4 side by side: 1.04 to 1.29 times the images/s.
        size = max(self._fixed_batch or 1, -(-len(items) // self._threads))
        if size >= len(items):
            return self._part(items)
        parts = [items[first : first + size] for first in range(0, len(items), size)]
        return [answer for part in self._hands.map(self._part, parts) for answer in part]

    def close(self) -> None:
        self._hands.shutdown()
        self._session.close()

    def _part(self, items: Sequence[Pixels]) -> list[Answer]:
        return self._answered([self._prepare(each) for each in items])

    def _answered(self, tensors: list[NDArray[np.float32] | None]) -> list[Answer]:
        """None is a damaged picture."""
        whole = [each for each in tensors if each is not None]
        rows = iter(self._scores(whole))
        return [_DAMAGED if each is None else self._answer(next(rows)) for each in tensors]

    def _prepare(self, pixels: Pixels) -> NDArray[np.float32] | None:
        try:
            return preprocess.tensor(preprocess.array(pixels), self._input)
        except ValueError:
            return None

    def _scores(self, tensors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One row of scores a tensor."""
        most = self._fixed_batch or max(1, len(tensors))
        rows = [self._run(tensors[first : first + most]) for first in range(0, len(tensors), most)]
        raw = np.concatenate(rows) if rows else np.empty((0, len(self._labels)), np.float32)
        return activated(raw, self._activation)

    def _run(self, tensors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        count = len(tensors)
        size = self._fixed_batch or (count if self.device == "cpu" else bucket(count))
        batch = np.zeros((size, *tensors[0].shape), self._port.dtype)
        for place, each in enumerate(tensors):
            batch[place] = each
        raw = self._session.run({self._port.name: batch})[0]
        return raw[:count].astype(np.float32).reshape(count, -1)

    def _answer(self, row: NDArray[np.float32]) -> Answer:
        # Softmax inside a graph may end a rounding error outside 0 to 1; what is further out is no probability.
        if not np.isfinite(row).all() or row.min() < -1e-3 or row.max() > 1 + 1e-3:
            return _NO_SCORE
        return Answer(scores=dict(zip(self._labels, np.clip(row, 0.0, 1.0).tolist(), strict=True)))


def open_model(settings: Settings, manifest: Manifest, folder: Path) -> OnnxClassifier:
    wanted = settings.inference
    return OnnxClassifier(manifest, folder, wanted.device, wanted.threads, wanted.max_batch)


def bucket(count: int) -> int:
    """The smallest batch size of BUCKETS that holds `count`; beyond the last, `count` itself."""
    return next((size for size in BUCKETS if size >= count), count)


def activated(raw: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    if activation == "softmax":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        return (1.0 / (1.0 + np.exp(-raw))).astype(np.float32)
    return raw


_DAMAGED = Answer(
    problem=Problem(code="MODEL_REFUSED", message="The picture's bytes do not fit its width and height.", passing=False)
)
_NO_SCORE = Answer(
    problem=Problem(code="MODEL_REFUSED", message="The model's output is no probability.", passing=False)
)


def _check_graph(name: str, taken: Port, given: Port, spec: ImageInput, labels: int) -> None:
    """Raises Misconfigured when the manifest does not fit the graph; dimensions that may vary fit anything."""
    sides = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
    declared = taken.shape[1:]
    if len(declared) != 3 or any(d is not None and d != s for d, s in zip(declared, sides, strict=False)):
        raise Misconfigured(f"{name}: the manifest says input {sides}, but the graph takes {declared}")
    if given.shape and given.shape[-1] not in (None, labels):
        raise Misconfigured(f"{name}: the manifest has {labels} labels, but the graph gives {given.shape[-1]} scores")


def _open(path: Path, threads: int, providers: list[Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would log it also raises
    options.intra_op_num_threads = threads or cores()
    # Spinning threads of one model take the cores from the next: three models at once, 2 cores, did 0.9 of the work
    # that the cores can do without spinning and 0.55 with it. A single model asked for one image loses a fifth.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except _FAULTS as error:
        raise Misconfigured(f"{path}: onnxruntime cannot open it ({error})") from error


def _on_cuda(path: Path, threads: int) -> tuple[Any, str]:
    """A session that has worked on the GPU, or None and the reason why there is none.

    1. a driver with a device must answer; 2. the session must list CUDA; 3. an inference must come back;
    4. the driver must show that memory was taken.
    """
    free_before = _gpu_free_bytes()
    if free_before is None:
        return None, "no NVIDIA driver with a GPU answers on this machine"
    with contextlib.redirect_stdout(io.StringIO()):  # it prints each library that it does not find
        onnxruntime.preload_dlls()
    cuda = ("CUDAExecutionProvider", {"device_id": "0", "arena_extend_strategy": "kSameAsRequested"})
    try:
        session = _open(path, threads, [cuda, "CPUExecutionProvider"])
    except Misconfigured as error:  # it may still open on the CPU: too little GPU memory, say
        return None, error.message
    if "CUDAExecutionProvider" not in session.get_providers():
        return None, _why_not_loaded()
    try:
        session.run(None, {each.name: _zeros(_port(each)) for each in session.get_inputs()})
    except _FAULTS as error:
        return None, f"a test inference on the GPU failed ({error})"
    if not _holds_gpu_memory() and (_gpu_free_bytes() or 0) >= free_before:
        return None, "the session claims CUDA but the driver shows no memory taken"
    return session, ""


def _why_not_loaded() -> str:
    """Which library the CUDA provider misses, asked of the loader, since onnxruntime only logs it."""
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        if "cannot open shared object file" in str(error):
            return f"onnxruntime's CUDA part cannot be loaded ({error})"
    return "onnxruntime could not start CUDA on this GPU and driver; its log says more"


def _gpu_free_bytes() -> int | None:
    """Free memory of the first GPU, or None when no driver with a GPU answers."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).free)
    except pynvml.NVMLError:
        return None


def _holds_gpu_memory() -> bool:
    """Whether the driver lists this process. In a container with its own process ids it may not, though it is there."""
    try:
        listed = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return False
    return any(int(process.pid) == os.getpid() for process in listed)


def _zeros(port: Port) -> NDArray[Any]:
    return np.zeros([size or 1 for size in port.shape], dtype=port.dtype)


def _port(raw: Any) -> Port:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in raw.shape)
    return Port(name=raw.name, shape=shape, dtype=np.dtype(_DTYPES.get(raw.type, np.float32)).name)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
