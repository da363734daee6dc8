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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnxruntime
import pynvml
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults  # pyright: ignore[reportAttributeAccessIssue] compiled

from appliance.errors import Misconfigured

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


class Port(msgspec.Struct, frozen=True):
    """One input or output of a graph. None in `shape` is a dimension that may vary."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    """numpy's name of it: float32, int64."""


class Session:
    """One graph, open. `run` may be called by several threads at once; `close` gives the memory back.

    With "cuda" and "auto" it is on the GPU when that truly works, else on the CPU. `shortfall` then says why, unless the
    device is "auto" and there is no GPU. Raises Misconfigured when the file cannot be opened.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 0) -> None:
        before = _resident_bytes()
        session: Any = None
        self.shortfall = ""
        if device != "cpu" and (device == "cuda" or _gpu_free_bytes() is not None):
            session, self.shortfall = _on_cuda(path, threads)
        self.device = "cpu" if session is None else "cuda:0"
        if session is None:
            session = _open(path, threads, ["CPUExecutionProvider"])
        self._session: Any = session
        self.inputs: list[Port] = [_port(each) for each in session.get_inputs()]
        self.outputs: list[Port] = [_port(each) for each in session.get_outputs()]
        grown = _resident_bytes() - before
        # Never less than the file: other threads may give memory back while this one loads.
        self.memory_bytes: int = max(grown, path.stat().st_size)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: list[str] | None = None) -> list[NDArray[Any]]:
        """The named outputs, or all of them in the graph's order. Raises RuntimeError with onnxruntime's reason."""
        try:
            return cast(list[NDArray[Any]], self._session.run(outputs, dict(feeds)))
        except _FAULTS as error:
            raise RuntimeError(f"onnxruntime: {error}") from error

    def close(self) -> None:
        self._session = None
        gc.collect()
        # glibc keeps freed pages in its arenas; without the trim an unloaded model stays in the resident size.
        ctypes.CDLL(None).malloc_trim(0)


def _open(path: Path, threads: int, providers: list[Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would log it also raises
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
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
    session = _open(path, threads, [cuda, "CPUExecutionProvider"])
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
