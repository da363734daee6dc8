"""GPUs as NVML tells of them, and the machine as /proc does: read from stubs of both."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from appliance import survey
from appliance.__main__ import root
from appliance.devices import Driver, Holder
from appliance.house import House
from appliance.inference.client import Models
from appliance.machine import Meter
from tests import standins


class Nvml:
    """pynvml over two cards, of which the second tells less."""

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, *, cards: int = 2) -> None:
        self.cards = cards
        self.opened = 0
        self.is_broken = False

    def nvmlInit(self) -> None:
        if self.is_broken:
            raise self.NVMLError("Driver/library version mismatch")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        if self.is_broken:
            raise self.NVMLError("Driver/library version mismatch")
        return b"570.86.10"

    def nvmlDeviceGetCount(self) -> int:
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetMemoryInfo(self, card: int) -> Any:
        return SimpleNamespace(total=143_771_000_000, used=12_345_000_000 * (1 - card), free=0)

    def nvmlDeviceGetName(self, card: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetUUID(self, card: int) -> str:
        return f"GPU-{card}"

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        return SimpleNamespace(gpu=42, memory=7)

    def nvmlDeviceGetTemperature(self, card: int, _: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:
        if card:
            raise self.NVMLError("Not Supported")
        return 312_500

    def nvmlDeviceGetEnforcedPowerLimit(self, card: int) -> int:
        return 700_000

    def nvmlDeviceGetFanSpeed(self, card: int) -> int:
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetClockInfo(self, card: int, _: int) -> int:
        return 1980

    def nvmlDeviceGetComputeRunningProcesses(self, card: int) -> list[Any]:
        if card:
            return []
        return [SimpleNamespace(pid=4242, usedGpuMemory=12_000_000_000), SimpleNamespace(pid=7, usedGpuMemory=None)]


def test_a_card_is_told_with_all_that_it_says() -> None:
    found = Driver(Nvml()).look()
    first, second = found.devices
    assert (found.driver, found.why) == ("570.86.10", "")
    assert (first.name, first.memory_bytes, first.used_bytes) == ("NVIDIA H200", 143_771_000_000, 12_345_000_000)
    assert (first.utilisation, first.temperature_c, first.power_w, first.power_limit_w) == (0.42, 61, 312.5, 700.0)
    assert first.processes == (Holder(4242, 12_000_000_000), Holder(7, None))
    assert (first.fan, second.power_w, second.utilisation) == (None, None, 0.42)


def test_the_driver_is_opened_once_and_again_after_it_broke() -> None:
    nvml = Nvml()
    driver = Driver(nvml)
    driver.look()
    driver.look()
    assert nvml.opened == 1
    nvml.is_broken = True
    assert driver.look().why == "NVIDIA's driver does not answer (Driver/library version mismatch)"
    nvml.is_broken = False
    assert len(driver.look().devices) == 2
    driver.close()
    assert nvml.opened == 1


def test_a_driver_without_a_card_says_so() -> None:
    assert Driver(Nvml(cards=0)).look().why == "NVIDIA's driver is here and has no GPU"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of two cores and one process."""
    root = tmp_path / "proc"
    (root / "77/task/77").mkdir(parents=True)
    (root / "stat").write_text("cpu  0 0 0 0\ncpu0 100 0 0 900 0 0 0 0 0 0\ncpu1 0 0 0 1000 0 0 0 0 0 0\n")
    (root / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:  400 kB\nSwapTotal: 0 kB\n")
    (root / "loadavg").write_text("0.50 0.25 0.10 1/100 77\n")
    (root / "cpuinfo").write_text("model name\t: A  Processor\n")
    (root / "uptime").write_text("5000.5 1\n")
    (root / "77/stat").write_text("77 (a (b) c) S 1 1 1 0 0 0 0 0 0 0 150 50 0 0 20 0 9 0 100000 0 0")
    (root / "77/statm").write_text("500 25 0 0 0 0 0")
    (root / "77/cmdline").write_bytes(b"python\0-m\0appliance\0work\0")
    (root / "77/task/77/children").write_text("78 ")
    return root


def test_shares_of_cores_and_of_a_process_are_of_what_passed_between_two_looks(proc: Path) -> None:
    moments = iter([10.0, 14.0])
    meter = Meter(proc, lambda: next(moments))
    first, process = meter.machine(), meter.process(77)
    assert (first.cores, first.core_count, first.model, first.load) == ((), 2, "A Processor", (0.5, 0.25, 0.1))
    assert (first.memory_bytes, first.available_bytes) == (1_024_000, 409_600)
    assert process is not None
    assert (process.command, process.threads, process.cpu_s, process.share) == (
        "python -m appliance work",
        9,
        2.0,
        None,
    )
    assert meter.age_s(process) == 4000.5
    (proc / "stat").write_text("cpu  0 0 0 0\ncpu0 150 0 0 950 0 0 0 0 0 0\ncpu1 0 0 0 1100 0 0 0 0 0 0\n")
    (proc / "77/stat").write_text("77 (a (b) c) S 1 1 1 0 0 0 0 0 0 0 250 150 0 0 20 0 9 0 100000 0 0")
    assert meter.machine().cores == (0.5, 0.0)
    again = meter.process(77)
    assert again is not None
    assert again.share == 0.5
    assert meter.children(77) == [78]


def test_a_process_that_is_gone_or_dead_is_none(proc: Path) -> None:
    meter = Meter(proc)
    assert meter.process(78) is None
    (proc / "77/stat").write_text("77 (x) Z 1 1 1 0 0 0 0 0 0 0 150 50 0 0 20 0 9 0 100000 0 0")
    assert meter.process(77) is None


def test_the_survey_sets_models_beside_devices(house: House) -> None:
    models = Models(house.settings.inference_socket, 5.0)
    watch = survey.Watch(house.settings, models, driver=Driver(Nvml()))
    with standins.everybody(house.settings, standins.status(wanted="cuda:0")):
        found = watch.look()
    assert [one.name for one in found.models] == ["text-heads", "opennsfw", "nsfwjs", "faces-age", "image-safety-s"]
    assert len(found.devices.devices) == 2
    assert found.trouble[0].startswith("CUDA IS NOT USED by ")
    watch.close()
    models.close()


def test_devices_says_plainly_that_there_is_no_gpu(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    monkeypatch.setattr(survey, "Driver", lambda: Driver(Nvml(cards=0)))
    ran = CliRunner().invoke(root, ["devices"])
    assert ran.exit_code == 0
    assert "no GPU: NVIDIA's driver is here and has no GPU" in ran.stdout
    said = json.loads(CliRunner().invoke(root, ["devices", "--json"]).stdout)
    assert said["machine"]["core_count"] >= 1
    monkeypatch.setattr(survey, "Driver", lambda: Driver(Nvml()))
    assert "cuda:0 NVIDIA H200: 12,345 of 143,771 MB, 42% busy, 61 °C, 312 of 700 W" in (
        CliRunner().invoke(root, ["devices"]).stdout
    )
