"""The devices: two cards by a stub of NVML, and a machine without one, by a /proc of the test's own."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from appliance import heartbeat
from appliance.house import House
from tests import standins
from tests.test_devices import Nvml
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import devices
from tui.backend.desk import Desk
from tui.screens.gpu import Gpu
from tui.widgets.rows import Rows

SIZES = [("small", SMALL), ("wide", WIDE)]
THEMES = [("dark", "textual-dark"), ("light", "textual-light")]
LOOKS = 70


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look but those that a test has made: how many there were is seen."""
    monkeypatch.setattr(Gpu, "EVERY_S", None)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with four cores and our three processes, of which the worker has started a decoder."""
    root = tmp_path / "proc"
    root.mkdir()
    _pass(root, 0)
    (root / "meminfo").write_text("MemTotal: 32000000 kB\nMemAvailable: 21000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    (root / "loadavg").write_text("1.50 1.25 0.90 1/100 77\n")
    (root / "cpuinfo").write_text("model name\t: EPYC\n")
    (root / "uptime").write_text("90000 1\n")
    for pid, words, pages in ((4242, "infer", 180_000), (4243, "work", 43_000), (4244, "decoder", 9_000)):
        folder = root / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (python) S 1 1 1 0 0 0 0 0 0 0 150 50 0 0 20 0 9 0 100000 0 0")
        (folder / "statm").write_text(f"{pages} {pages} 0 0 0 0 0")
        (folder / "cmdline").write_bytes(f"python\0-m\0appliance\0{words}\0".encode())
        (folder / "task" / str(pid) / "children").write_text("4244 " if words == "work" else "")
    return root


def _pass(root: Path, look: int) -> None:
    """Time goes on: each core was busy for some of it."""
    lines = ["cpu 0 0 0 0"]
    for core in range(4):
        busy = sum((number * (core + 3)) % 50 for number in range(look))
        lines.append(f"cpu{core} {busy} 0 0 {look * 100 - busy} 0 0 0 0")
    (root / "stat").write_text("\n".join(lines) + "\n")


class Later(Nvml):
    """Whose figures move from look to look."""

    look = 0

    def nvmlDeviceGetUtilizationRates(self, card: int) -> Any:
        found = super().nvmlDeviceGetUtilizationRates(card)
        found.gpu = (self.look * (7 + card)) % 101
        return found


@pytest.fixture
def machine(proc: Path, house: House, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the screen look at these instead of at this machine."""

    def handed(nvml: Nvml) -> None:
        watch = devices.Watch
        look = watch.look
        looks = iter(range(1, 1000))

        def one_later(self: devices.Watch) -> devices.Survey:
            _pass(proc, next(looks))
            if isinstance(nvml, Later):
                nvml.look += 1
            found = look(self)
            known = {"models": 4242, "worker": 4243}
            return msgspec.structs.replace(
                found, processes=tuple(one for one in found.processes if one.name.split()[0] in known)
            )

        def open_(desk: Desk) -> devices.Watch:
            moments = iter(range(1, 100_000, 2))
            meter = devices.Meter(proc, lambda: float(next(moments)))
            return watch(desk.settings, desk.models, driver=devices.Driver(nvml), meter=meter, now=desk.now)

        monkeypatch.setattr(watch, "look", one_later)
        monkeypatch.setattr(devices, "open_", open_)

    beat = heartbeat.Beat(4243, NOON - 90_000, NOON, 16)
    return handed, beat


async def many_looks(pilot: Pilot[None]) -> None:
    for _ in range(LOOKS):
        await pilot.app.screen.load()  # type: ignore[attr-defined]
    await settle(pilot)


def all_up(house: House, beat: heartbeat.Beat, wanted: str | None = None, device: str = "cpu") -> Any:
    said = msgspec.structs.replace(standins.status(device=device, wanted=wanted), pid=4242)
    stack = standins.everybody(house.settings, said)
    return stack, lambda: heartbeat.path_in(house.settings.run_dir).write_bytes(msgspec.json.encode(beat))


@pytest.mark.parametrize(("size_name", "size"), SIZES)
@pytest.mark.parametrize(("theme_name", "theme"), THEMES)
def test_each_card_is_shown_with_its_history_and_what_lies_in_its_memory(
    machine: Any,
    house: House,
    desk: Desk,
    shoot: Shoot,
    size_name: str,
    size: tuple[int, int],
    theme_name: str,
    theme: str,
) -> None:
    handed, beat = machine
    handed(Later())
    stack, beating = all_up(house, beat, device="cuda:0")
    with stack:
        beating()
        shoot(desk, "gpu", f"gpu-cards-{size_name}-{theme_name}", doing=many_looks, size=size, theme=theme)


@pytest.mark.parametrize(("size_name", "size"), SIZES)
def test_without_a_card_processors_and_memory_are_shown_and_that_is_said(
    machine: Any, house: House, desk: Desk, shoot: Shoot, size_name: str, size: tuple[int, int]
) -> None:
    handed, beat = machine
    handed(Nvml(cards=0))
    stack, beating = all_up(house, beat)
    with stack:
        beating()
        shoot(desk, "gpu", f"gpu-none-{size_name}", doing=many_looks, size=size)


def test_a_card_that_is_there_and_not_used_is_said_first(machine: Any, house: House, desk: Desk, shoot: Shoot) -> None:
    handed, beat = machine
    handed(Nvml(cards=1))
    stack, beating = all_up(house, beat, wanted="cuda:0")
    with stack:
        beating()
        shoot(desk, "gpu", "gpu-cuda-not-used-small")


def test_with_nothing_running_only_the_machine_is_shown(machine: Any, desk: Desk, shoot: Shoot) -> None:
    handed, _ = machine
    handed(Nvml(cards=0))
    shoot(desk, "gpu", "gpu-all-down-small")


def test_a_driver_that_breaks_is_said_and_the_rest_goes_on(machine: Any, desk: Desk, shoot: Shoot) -> None:
    handed, _ = machine
    nvml = Nvml(cards=1)
    handed(nvml)

    async def breaks(pilot: Pilot[None]) -> None:
        nvml.is_broken = True
        await pilot.press("f5")

    shoot(desk, "gpu", "gpu-driver-broken-small", doing=breaks)


def test_a_pid_is_copied(machine: Any, house: House, desk: Desk) -> None:
    handed, beat = machine
    handed(Nvml(cards=1))

    async def copy(pilot: Pilot[None]) -> None:
        rows = pilot.app.screen.query_one("#takers", Rows)
        rows.focus()
        await pilot.press("end", "y")
        await pilot.pause()
        assert rows.current is not None
        assert pilot.app.clipboard == "7"  # a stranger's, which holds memory of the card

    stack, beating = all_up(house, beat)
    with stack:
        beating()
        drive(desk, "gpu", copy)
