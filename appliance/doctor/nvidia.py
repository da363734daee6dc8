"""NVIDIA's driver as NVML tells of it, in shapes of our own. The doctor's only file that knows pynvml."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    index: int
    name: str
    memory_bytes: int
    free_bytes: int
    temperature_c: int | None = None
    """None, here and below: the driver does not say."""
    slowdown_c: int | None = None
    is_throttled: bool | None = None
    """By heat or a power brake, right now."""
    has_ecc: bool | None = None
    uncorrected: int | None = None
    """Errors of memory that ECC could not put right, ever."""
    is_persistent: bool | None = None
    has_mig: bool | None = None


@dataclass(frozen=True)
class Driver:
    version: str = ""
    """Empty: none answers."""
    cuda: tuple[int, int] = (0, 0)
    """The newest CUDA that the driver can run."""
    cards: list[Card] = field(default_factory=list[Card])
    why: str = ""
    """Why none answers."""
    is_blind: bool = False
    """There is no package to ask it with: nothing is known of it."""


_HOT = 0x0000000000000020 | 0x0000000000000040 | 0x0000000000000080
"""nvmlClocksThrottleReason: software thermal slowdown, hardware thermal slowdown, power brake."""


def driver() -> Driver:
    """What the driver says now; one without cards and with a reason when none answers."""
    try:
        import pynvml  # pyright: ignore[reportMissingTypeStubs]  # it has none
    except ImportError:
        return Driver(why="the package nvidia-ml-py is missing", is_blind=True)
    nvml = cast(Any, pynvml)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Driver(why=str(error))
    try:
        version = str(nvml.nvmlSystemGetDriverVersion())
        newest = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        cards = [_card(nvml, index) for index in range(int(nvml.nvmlDeviceGetCount()))]
        return Driver(version, (newest // 1000, newest % 1000 // 10), cards)
    except nvml.NVMLError as error:
        return Driver(why=str(error))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _card(nvml: Any, index: int) -> Card:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)

    def ask(question: Callable[[], T]) -> T | None:
        """Not every card can answer everything."""
        try:
            return question()
        except nvml.NVMLError:
            return None

    ecc = ask(lambda: nvml.nvmlDeviceGetEccMode(handle)[0])
    reasons = ask(lambda: int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
    persistent = ask(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
    mig = ask(lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    return Card(
        index=index,
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(memory.total),
        free_bytes=int(memory.free),
        temperature_c=ask(lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        slowdown_c=ask(
            lambda: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))
        ),
        is_throttled=None if reasons is None else bool(reasons & _HOT),
        has_ecc=None if ecc is None else bool(ecc),
        uncorrected=ask(
            lambda: int(
                nvml.nvmlDeviceGetTotalEccErrors(
                    handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_AGGREGATE_ECC
                )
            )
        ),
        is_persistent=None if persistent is None else bool(persistent),
        has_mig=None if mig is None else bool(mig),
    )
