"""The GPUs of this machine as NVIDIA's driver tells of them (NVML). Figures that a card does not give are None."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")


class Holder(msgspec.Struct, frozen=True):
    """A process with memory on the device."""

    pid: int
    memory_bytes: int | None


class Device(msgspec.Struct, frozen=True):
    index: int
    name: str
    uuid: str
    memory_bytes: int
    used_bytes: int
    utilisation: float | None = None
    """Share of the last moment in which it computed, 0 to 1."""
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    fan: float | None = None
    clock_mhz: int | None = None
    processes: tuple[Holder, ...] = ()


class Devices(msgspec.Struct, frozen=True):
    """All of them; none, and why."""

    devices: tuple[Device, ...] = ()
    driver: str = ""
    why: str = ""


class Driver:
    """The driver, opened at the first look and kept: opening it takes 10 to 100 ms. `nvml` is pynvml."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml: Any = nvml
        self._is_open = False

    def look(self) -> Devices:
        """Raises nothing: no driver, or one that answers no more, is an answer too."""
        if self._nvml is None:
            try:
                import pynvml  # pyright: ignore[reportMissingTypeStubs]  # its room with onnx.py
            except ImportError:
                return Devices(why="the package nvidia-ml-py is not installed")
            self._nvml = cast(Any, pynvml)
        nvml = self._nvml
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            found = tuple(self._device(number) for number in range(int(nvml.nvmlDeviceGetCount())))
        except nvml.NVMLError as error:
            self._is_open = False  # a driver that was updated under us answers again after a new start
            return Devices(why=f"NVIDIA's driver does not answer ({error})")
        return Devices(found, driver, "" if found else "NVIDIA's driver is here and has no GPU")

    def close(self) -> None:
        if self._is_open:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._is_open = False

    def _device(self, number: int) -> Device:
        nvml = self._nvml
        card = nvml.nvmlDeviceGetHandleByIndex(number)
        memory = nvml.nvmlDeviceGetMemoryInfo(card)
        return Device(
            index=number,
            name=_text(nvml.nvmlDeviceGetName(card)),
            uuid=_text(nvml.nvmlDeviceGetUUID(card)),
            memory_bytes=int(memory.total),
            used_bytes=int(memory.used),
            utilisation=self._said(lambda: float(nvml.nvmlDeviceGetUtilizationRates(card).gpu) / 100),
            temperature_c=self._said(lambda: int(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))),
            power_w=self._said(lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1000),
            power_limit_w=self._said(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1000),
            fan=self._said(lambda: nvml.nvmlDeviceGetFanSpeed(card) / 100),
            clock_mhz=self._said(lambda: int(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))),
            processes=self._said(lambda: self._holders(card)) or (),
        )

    def _holders(self, card: Any) -> tuple[Holder, ...]:
        return tuple(
            # None where the driver may not say, e.g. within a container
            Holder(int(one.pid), None if one.usedGpuMemory is None else int(one.usedGpuMemory))
            for one in self._nvml.nvmlDeviceGetComputeRunningProcesses(card)
        )

    def _said(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except self._nvml.NVMLError:  # this card has no such figure
            return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
