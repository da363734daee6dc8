"""A list, and the detail of the line under its cursor: side by side where there is room, else one of them."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from tui.widgets.cells import clean_lines, cleaned

ROOM = 110
"""Columns from which both are seen."""


@dataclass(frozen=True)
class Section:
    """Part of a detail: names and values, or lines of several columns."""

    title: str
    lines: Sequence[tuple[str | Text, ...]]
    empty: str = ""
    """Said instead of no lines; "" = then the section is not there."""


class Detail(VerticalScroll, can_focus=True):
    """Sections, one under the other."""

    DEFAULT_CSS = """
    Detail { height: 1fr; padding: 0 1; background: $surface; scrollbar-size: 1 1; }
    Detail > Static { height: auto; width: 100%; }
    """

    def compose(self) -> ComposeResult:
        yield Static("", id="detail-text", markup=False)

    def show(self, sections: Sequence[Section]) -> None:
        """Replace what is there; the place that is read stays where it is."""
        parts: list[RenderableType] = []
        for section in sections:
            if not section.lines and not section.empty:
                continue
            parts += [Text(""), Text(section.title, style="bold")] if section.title else []
            if not section.lines:
                parts.append(Text(section.empty, style="dim"))
                continue
            table = Table.grid(padding=(0, 2), pad_edge=False)
            widest = max(len(line) for line in section.lines)
            for place in range(widest):
                last = place == widest - 1
                table.add_column(style="" if last or place else "dim", no_wrap=not last, overflow="fold")
            for line in section.lines:
                table.add_row(*(Text(clean_lines(one)) if isinstance(one, str) else cleaned(one) for one in line))
            parts.append(table)
        self.query_one("#detail-text", Static).update(Group(*parts))


class Pair(Horizontal):
    """The two; `open` and `close` show and hide the detail."""

    DEFAULT_CSS = """
    Pair { height: 1fr; }
    Pair > .pair--list { width: 1fr; }
    Pair > .pair--detail { width: 1fr; display: none; }
    Pair.open > .pair--list { display: none; }
    Pair.open > .pair--detail { display: block; }
    Pair.open.roomy > .pair--list { display: block; }
    Pair.open.roomy > .pair--detail { width: 64; border-left: solid $primary; }
    """

    def __init__(self, rows: Widget, detail: Widget, *, id: str | None = None) -> None:
        rows.add_class("pair--list")
        detail.add_class("pair--detail")
        self._rows, self._detail = rows, detail
        super().__init__(rows, detail, id=id)

    @property
    def is_open(self) -> bool:
        return self.has_class("open")

    @property
    def is_roomy(self) -> bool:
        return self.has_class("roomy")

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= ROOM, "roomy")
        if self.is_open and not self.is_roomy:
            self._detail.focus()

    def open(self) -> None:
        """Where both are seen the list keeps the keys."""
        self.add_class("open")
        if not self.is_roomy:
            self._detail.focus()

    def close(self) -> None:
        self.remove_class("open")
        self._rows.focus()
