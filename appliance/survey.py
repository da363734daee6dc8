"""The machine under the house in one answer: GPUs, processors, memory, and what our processes and models take."""

from collections.abc import Callable

import msgspec

from appliance import clock, vitals
from appliance.devices import Devices, Driver
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus
from appliance.machine import Machine, Meter, Process
from appliance.settings import Settings


class Ours(msgspec.Struct, frozen=True):
    """A process of the house, or one that such a process started."""

    name: str
    process: Process


class Survey(msgspec.Struct, frozen=True):
    at: int
    machine: Machine
    devices: Devices
    models: tuple[ModelStatus, ...]
    """Those that are loaded."""
    wanted_device: str
    processes: tuple[Ours, ...]
    trouble: tuple[str, ...]
    """CUDA that is asked for and not used."""


class Watch:
    """Looks again and again, and remembers what only differences tell."""

    def __init__(
        self,
        settings: Settings,
        models: Models,
        *,
        driver: Driver | None = None,
        meter: Meter | None = None,
        now: Callable[[], int] = clock.now_ms,
    ) -> None:
        self._settings = settings
        self._models = models
        self._driver = driver or Driver()
        self._meter = meter or Meter()
        self._now = now

    def look(self) -> Survey:
        """As of now."""
        now = self._now()
        processes, status, _ = vitals.found(self._settings, self._models, now)
        loaded = [one for one in status.models if one.state is ModelState.READY] if status else []
        return Survey(
            at=now,
            machine=self._meter.machine(),
            devices=self._driver.look(),
            models=tuple(sorted(loaded, key=lambda one: one.memory_bytes, reverse=True)),
            wanted_device=self._settings.inference.device,
            processes=tuple(self._ours(processes)),
            trouble=tuple(vitals.device_trouble(status)),
        )

    def close(self) -> None:
        self._driver.close()

    def _ours(self, processes: tuple[vitals.Process, ...]) -> list[Ours]:
        found: list[Ours] = []
        for one in processes:
            if one.pid is None or (seen := self._meter.process(one.pid)) is None:
                continue
            found.append(Ours(one.name, seen))
            for child in self._meter.children(one.pid):
                if (below := self._meter.process(child)) is not None:
                    found.append(Ours(f"{one.name} ›", below))
        return found
