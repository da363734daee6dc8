"""Bars over time, a line each, with its name before it and a sentence behind: read at 80 columns and without colour.

Drawn by hand instead of by plotext, which tells its lines apart by colour alone, and takes 3.4 ms for what is 0.5 here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_FULL = 40  # fewer values are a history that has only begun: they are not stretched


@dataclass(frozen=True)
class Series:
    name: str
    values: Sequence[float]
    """The oldest first; the newest stands at the right."""
    said: str = ""
    """Behind the bars."""
    tone: str = ""
    """"", "good", "warn", "bad": as in Rows."""
    top: float | None = None
    """What a full bar means; None = the highest value."""


class Plot(Widget):
    """As many series as are shown, one above the other, in equal shares of the height."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--name", "plot--bar", "plot--good", "plot--warn", "plot--bad"}
    DEFAULT_CSS = """
    Plot { height: 3; }
    Plot > .plot--name { color: $text-muted; }
    Plot > .plot--bar { color: $primary; }
    Plot > .plot--good { color: $text-success; }
    Plot > .plot--warn { color: $text-warning; }
    Plot > .plot--bad { color: $text-error; }
    """

    def __init__(self, *, id: str | None = None, names: int = 11, said: int = 14) -> None:
        super().__init__(id=id)
        self._names = names
        self._said = said
        self._series: tuple[Series, ...] = ()

    def show(self, series: Sequence[Series]) -> None:
        """Replace what is drawn, if it is another."""
        if self._series != tuple(series):
            self._series = tuple(series)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        if not self._series:
            return Strip.blank(self.size.width, self.rich_style)
        each = max(1, self.size.height // len(self._series))
        number, row = divmod(y, each)
        if number >= len(self._series):
            return Strip.blank(self.size.width, self.rich_style)
        one, is_last = self._series[number], row == each - 1
        room = max(1, self.size.width - self._names - self._said - 1)
        bars = drawn(one.values, room, each, row, one.top)
        muted = self.get_component_rich_style("plot--name")
        name = one.name if is_last else ""
        said = one.said if is_last else ""
        return Strip(
            [
                Segment(name[: self._names].ljust(self._names), muted),
                Segment(bars, self.get_component_rich_style(f"plot--{one.tone or 'bar'}")),
                Segment(" " + said[: self._said].rjust(self._said), self.rich_style + Style()),
            ]
        ).adjust_cell_length(self.size.width, self.rich_style)


def drawn(values: Sequence[float], room: int, height: int, row: int, top: float | None) -> str:
    """One row of the bars, `room` wide; row 0 is the highest of `height`. What is more than nothing is seen."""
    values = list(values)[-room:]
    if len(values) >= _FULL:
        values = [values[place * len(values) // room] for place in range(room)]
    most = max(top if top is not None else max(values, default=0), 1e-9)
    letters: list[str] = []
    for value in values:
        eighths = round(min(value, most) / most * height * 8)
        eighths = max(eighths, 1) if value > 0 else 0
        letters.append(_EIGHTHS[min(8, max(0, eighths - (height - 1 - row) * 8))])
    base = "".join(letters)
    if row == height - 1:
        base = base.replace(" ", "·")  # the ground: where a minute was, and nothing in it
    return base.rjust(room)
