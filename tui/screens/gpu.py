"""The devices: memory by model, utilisation, temperature, power; without a GPU, processors and memory instead."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui import words
from tui.backend import devices
from tui.place import Place
from tui.widgets.plot import Plot, Series
from tui.widgets.rows import Column, Line, Rows

_KEPT = 120
"""Looks that the plots remember: four minutes."""
_BAR = 16
_EIGHTHS = "·▁▂▃▄▅▆▇█"


class _Known(Protocol):
    """The application, as far as this screen knows it."""

    alarms: Sequence[str]


class Gpu(Place):
    NAME = "gpu"
    EVERY_S = 2.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy pid", id="gpu.copy", tooltip="Copy the process id under the cursor"),
    ]
    CSS = """
    Gpu #all { padding: 0 1; scrollbar-size: 1 1; }
    Gpu #all > Static { height: auto; width: 100%; }
    Gpu #wrong { color: $text-error; text-style: bold; display: none; }
    Gpu #takers { height: 1fr; min-height: 5; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._watch: devices.Watch | None = None
        self._found: devices.Survey | None = None
        self._past: dict[str, deque[float]] = {}

    def body(self) -> ComposeResult:
        with VerticalScroll(id="all", can_focus=False):
            yield Static(id="wrong", markup=False)
            yield Static(id="what", markup=False)
            yield Plot(id="history", names=11, said=20)
            yield Static(id="cores", markup=False)
            yield Static(id="models", markup=False)
            yield Rows(
                [
                    Column("Process", 16, grows=True),
                    Column("Pid", 8, align="right"),
                    Column("Memory", 9, align="right"),
                    Column("On GPU", 9, align="right"),
                    Column("CPU", 6, align="right"),
                    Column("Threads", 7, align="right", least=60),
                    Column("Command", 30, grows=True, least=130),
                ],
                id="takers",
                empty="None of our processes runs.",
            )

    async def load(self) -> None:
        if self._watch is None:
            self._watch = devices.open_(self.desk)
        self._show(await self.ask(self._watch.look))

    def on_unmount(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def say_alarms(self) -> None:
        """What the banner says need not be said again below it."""
        super().say_alarms()
        if self._found is not None:
            self._say_wrong(self._found)

    def _show(self, found: devices.Survey) -> None:
        self._found = found
        self._say_wrong(found)
        self._put("what", _what(found))
        series = list(self._series(found))
        plot = self.query_one("#history", Plot)
        room = max(1, (self.size.height - 17) // max(1, len(series)))
        plot.styles.height = len(series) * min(3, room)
        plot.show(series)
        self._put("cores", Text("") if found.devices.devices else _cores(found.machine))
        self._put("models", _models(found, 6 if self.size.height >= 30 else 3))
        self.query_one("#takers", Rows).show(list(_takers(found)))

    def _series(self, found: devices.Survey) -> Iterable[Series]:
        machine = found.machine
        for one in found.devices.devices:
            start = f"{one.index} " if len(found.devices.devices) > 1 else ""
            used = one.used_bytes / max(1, one.memory_bytes)
            busy = one.utilisation
            yield self._line(f"{start}busy", busy, _percent(busy), top=1.0)
            said = f"{words.size(one.used_bytes)} of {words.size(one.memory_bytes)}"
            yield self._line(f"{start}memory", used, said, top=1.0, tone="warn" if used > 0.95 else "")
            heat = one.temperature_c
            tone = "bad" if heat is not None and heat >= 85 else ""
            yield self._line(f"{start}heat", heat, "not told" if heat is None else f"{heat} °C", top=100.0, tone=tone)
            power, most = one.power_w, one.power_limit_w
            said = "not told" if power is None else f"{power:.0f} W" + ("" if most is None else f" of {most:.0f}")
            yield self._line(f"{start}power", power, said, top=most)
        busy = sum(machine.cores) / len(machine.cores) if machine.cores else None
        start = "cpu " if found.devices.devices else ""
        yield self._line(f"{start}busy", busy, _percent(busy), top=1.0)
        used = machine.memory_bytes - machine.available_bytes
        said = f"{words.size(used)} of {words.size(machine.memory_bytes)}"
        yield self._line(f"{start}memory", used / max(1, machine.memory_bytes), said, top=1.0)
        if not found.devices.devices:
            yield self._line("load", machine.load[0], " ".join(f"{one:.2f}" for one in machine.load))

    def _line(self, name: str, value: float | None, said: str, *, top: float | None = None, tone: str = "") -> Series:
        past = self._past.setdefault(name, deque(maxlen=_KEPT))
        past.append(value or 0.0)
        return Series(name, tuple(past), said, tone, top)

    def _say_wrong(self, found: devices.Survey) -> None:
        wrong = [one for one in found.trouble if one not in cast("_Known", self.app).alarms[:2]]
        self.query_one("#wrong", Static).display = bool(wrong)
        self._put("wrong", Text("\n".join(f"▲ {one}" for one in wrong)))

    def _put(self, id: str, text: Text) -> None:
        here = self.query_one(f"#{id}", Static)
        if here.content != text:
            here.update(text)

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        """What it is, in full."""
        self.notify(str(message.line.cells[-1]), title=f"Process {message.line.key}", markup=False)

    def action_copy(self) -> None:
        line = self.query_one("#takers", Rows).current
        if line is None:
            self.notify("There is nothing under the cursor.")
            return
        self.app.copy_to_clipboard(line.key)
        self.notify(f"Copied {line.key}", markup=False)


def _what(found: devices.Survey) -> Text:
    if not found.devices.devices:
        said = f"NO GPU HERE: {found.devices.why}. The processors and their memory instead."
        return Text.assemble((said, "bold"), f"\n{found.machine.core_count} cores, {found.machine.model}")
    lines = [Text(f"NVIDIA DRIVER {found.devices.driver}, models asked for on {found.wanted_device}", "bold")]
    for one in found.devices.devices:
        more = [
            "" if one.clock_mhz is None else f"{one.clock_mhz} MHz",
            "" if one.fan is None else f"fan {one.fan:.0%}",
        ]
        lines.append(Text("  ".join([f"cuda:{one.index}  {one.name}", *filter(None, more)])))
    return Text("\n").join(lines)


def _cores(machine: devices.Machine) -> Text:
    """A bar each; of many, one letter each. They stay in their order: the busiest first would jump about."""
    if not machine.cores:
        return Text("cores       measured from the second look on", "dim")
    if len(machine.cores) > 4:
        return Text(f"cores       {''.join(_EIGHTHS[round(share * 8)] for share in machine.cores)}")
    return Text("cores      " + "  ".join(f" {_bar(share, 8)} {share:>4.0%}" for share in machine.cores))


def _models(found: devices.Survey, most_lines: int) -> Text:
    title = Text("MEMORY BY MODEL", "bold")
    if not found.models:
        return Text("\n").join([title, Text("no model is loaded, or the model process is down", "dim")])
    most = max(max(one.memory_bytes for one in found.models), 1)
    lines = [title]
    for one in found.models[:most_lines]:
        is_lame = one.device != one.wanted_device
        line = Text.assemble(
            f"{one.name[:23]:<23} ",
            (f"{_bar(one.memory_bytes / most, _BAR)} ", "cyan"),
            f"{words.size(one.memory_bytes):>8}  ",
            (f"{one.device}, NOT {one.wanted_device}", "bold yellow") if is_lame else (one.device, ""),
        )
        lines.append(line)
    if rest := found.models[most_lines:]:
        lines.append(Text(f"{len(rest)} more, {words.size(sum(one.memory_bytes for one in rest))}", "dim"))
    return Text("\n").join(lines)


def _takers(found: devices.Survey) -> Iterable[Line]:
    """Our processes, then strangers that hold memory of a GPU."""
    held: dict[int, int | None] = {}
    for one in found.devices.devices:
        for holder in one.processes:
            held[holder.pid] = (held.get(holder.pid) or 0) + (holder.memory_bytes or 0)
    for ours in found.processes:
        one = ours.process
        on_gpu = held.pop(one.pid, None)
        yield Line(
            str(one.pid),
            (
                ours.name,
                str(one.pid),
                words.size(one.rss_bytes),
                "—" if on_gpu is None else words.size(on_gpu),
                "" if one.share is None else f"{one.share:.0%}",
                str(one.threads),
                one.command,
            ),
        )
    for pid, memory in held.items():
        said = "not told" if not memory else words.size(memory)
        yield Line(str(pid), ("not ours", str(pid), "", said), tone="warn")


def _bar(share: float, width: int) -> str:
    full = round(min(1.0, max(0.0, share)) * width)
    return "█" * full + "·" * (width - full)


def _percent(share: float | None) -> str:
    return "not yet told" if share is None else f"{share:.0%}"


SCREEN = Gpu
