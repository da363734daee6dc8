"""A table of any length: only the lines that are seen are asked for and drawn.

A source answers how many rows there are, and for a window of them. It may block: it is asked in a thread, a page at a
time; what has not come yet is drawn as a dot. A short list needs no source: `show` takes it as it is.
"""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

PAGE = 200


@dataclass(frozen=True)
class Column:
    title: str
    width: int
    """In characters; what is longer ends in an ellipsis."""
    align: Literal["left", "right"] = "left"
    grows: bool = False
    """Takes what is left of the width."""
    least: int = 0
    """Not shown where the table is narrower than this."""


@dataclass(frozen=True)
class Line:
    """One row: `key` is what is asked for when it is chosen."""

    key: str
    cells: tuple[str | Text, ...]
    tone: str = ""
    """A component class of the table for the whole line: "", "muted", "good", "warn", "bad"."""


class Source(Protocol):
    """Where lines come from; both are called in a thread and may raise what the backend raises."""

    def count(self) -> int: ...

    def window(self, first: int, count: int) -> Sequence[Line]: ...


class Rows(ScrollView, can_focus=True):
    """The table. `Rows.Chosen` is posted on enter or a second click, `Rows.Moved` as the cursor moves."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--head",
        "rows--cursor",
        "rows--muted",
        "rows--good",
        "rows--warn",
        "rows--bad",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="rows.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="rows.down"),
        Binding("pageup", "leap(-1)", "Page up", show=False, id="rows.page_up"),
        Binding("pagedown", "leap(1)", "Page down", show=False, id="rows.page_down"),
        Binding("home", "end(-1)", "First", show=False, id="rows.first"),
        Binding("end,G", "end(1)", "Last", show=False, id="rows.last"),
        Binding("enter", "choose", "Open", id="rows.open", tooltip="Open the line under the cursor"),
    ]
    DEFAULT_CSS = """
    Rows { height: 1fr; background: $surface; scrollbar-size: 1 1; }
    Rows > .rows--head { color: $text-muted; text-style: bold; background: $panel; }
    Rows > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    Rows > .rows--muted { color: $text-muted; }
    Rows > .rows--good { color: $text-success; }
    Rows > .rows--warn { color: $text-warning; }
    Rows > .rows--bad { color: $text-error; }
    """

    cursor: reactive[int] = reactive(0, repaint=True)

    @dataclass
    class Moved(Message):
        """The cursor is on another line, or on none."""

        rows: "Rows"
        line: Line | None

        @property
        def control(self) -> "Rows":
            return self.rows

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Rows.Moved)

    @dataclass
    class Chosen(Message):
        rows: "Rows"
        line: Line

        @property
        def control(self) -> "Rows":
            return self.rows

    @dataclass
    class Broken(Message):
        """The source raised; the lines that were there stay."""

        rows: "Rows"
        error: Exception

        @property
        def control(self) -> "Rows":
            return self.rows

    def __init__(self, columns: Sequence[Column], *, id: str | None = None, empty: str = "Nothing here yet.") -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.empty = empty
        """What stands there when there is nothing."""
        self.source: Source | None = None
        self._count = 0
        self._pages: dict[int, Sequence[Line]] = {}
        self._asked: set[int] = set()
        self._epoch = 0

    # --- what is shown ------------------------------------------------------------------------------------------------

    def show(self, lines: Sequence[Line]) -> None:
        """These, at once; the cursor stays on its line's key when it is still there."""
        key = line.key if (line := self.current) else None
        self.source = None
        self._epoch += 1
        self._pages = {page: lines[page * PAGE : (page + 1) * PAGE] for page in range(-(-len(lines) // PAGE))}
        self._resize(len(lines))
        place = next((n for n, one in enumerate(lines) if one.key == key), None) if key is not None else None
        self.cursor = min(self.cursor if place is None else place, max(len(lines) - 1, 0))
        self.refresh()
        self.post_message(self.Moved(self, self.current))

    async def follow(self, source: Source) -> None:
        """Lines of this source from now on; returns when what is seen is there. Called again, it is asked anew."""
        self.source = source
        self._epoch += 1
        epoch = self._epoch
        try:
            count = await asyncio.to_thread(source.count)
            first = min(self.cursor, max(count - 1, 0)) // PAGE
            page: Sequence[Line] = await asyncio.to_thread(source.window, first * PAGE, PAGE) if count else ()
        except Exception as error:  # whatever the source raises is told, never lost in a task
            self.post_message(self.Broken(self, error))
            return
        if epoch != self._epoch:
            return
        self._pages, self._asked = {first: page}, set()
        self._resize(count)
        self.cursor = min(self.cursor, max(count - 1, 0))
        self.refresh()
        self.post_message(self.Moved(self, self.current))

    @property
    def row_count(self) -> int:
        return self._count

    @property
    def current(self) -> Line | None:
        """The line under the cursor, if it has come."""
        return self.line_at(self.cursor)

    def line_at(self, number: int) -> Line | None:
        page = self._pages.get(number // PAGE)
        return page[number % PAGE] if page is not None and number % PAGE < len(page) else None

    def _resize(self, count: int) -> None:
        self._count = count
        self.virtual_size = Size(0, count + 1)

    async def _fetch(self, page: int, epoch: int) -> None:
        source = self.source
        if source is None:
            return
        try:
            lines = await asyncio.to_thread(source.window, page * PAGE, PAGE)
        except Exception as error:  # as in follow
            self.post_message(self.Broken(self, error))
            return
        if epoch == self._epoch:
            self._pages[page] = lines
            self.refresh()
            if self.cursor // PAGE == page:
                self.post_message(self.Moved(self, self.current))

    # --- drawing ------------------------------------------------------------------------------------------------------

    def widths(self) -> list[tuple[int, Column, int]]:
        """(place, column, width) of those that there is room for."""
        room = self.scrollable_content_region.width or self.size.width
        seen = [(n, one) for n, one in enumerate(self.columns) if room >= one.least]
        spare = room - sum(one.width for _, one in seen) - 2 * max(len(seen) - 1, 0)
        growing = sum(one.grows for _, one in seen)
        return [(n, one, max(one.width + (spare // growing if one.grows else 0), 1)) for n, one in seen]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            style = self.get_component_rich_style("rows--head")
            return self._strip(tuple(one.title for one in self.columns), style, width, is_head=True)
        number = self.scroll_offset.y + y - 1
        if number >= self._count:
            if self._count == 0 and y == 1:
                style = self.get_component_rich_style("rows--muted")
                return Strip([Segment(self.empty[:width].ljust(width), style)], width)
            return Strip.blank(width, self.rich_style)
        line = self.line_at(number)
        if line is None:
            self._want(number // PAGE)
        is_here = number == self.cursor and (self.has_focus or self.screen.focused is not None)
        style = self.rich_style
        if line is not None and line.tone:
            style = self.get_component_rich_style(f"rows--{line.tone}")
        if is_here:
            style = self.get_component_rich_style("rows--cursor")
        return self._strip(line.cells if line else ("·",), style, width, is_head=False, plain=is_here)

    def _want(self, page: int) -> None:
        if page not in self._asked and self.source is not None:
            self._asked.add(page)
            self.run_worker(self._fetch(page, self._epoch), group="rows")

    def _strip(
        self, cells: tuple[str | Text, ...], style: Style, width: int, *, is_head: bool, plain: bool = False
    ) -> Strip:
        text = Text(end="", no_wrap=True)
        for place, column, room in self.widths():
            cell = cells[place] if place < len(cells) else ""
            piece = cell.copy() if isinstance(cell, Text) else Text(cell)
            if plain:
                piece = Text(piece.plain)
            piece.truncate(room, overflow="ellipsis")
            piece.align(column.align, room)
            if text:
                text.append("  ")
            text.append_text(piece)
        text.truncate(width, pad=True)
        segments = Segment.apply_style(text.render(self.app.console), style)
        return Strip(segments).adjust_cell_length(width, style)

    # --- moving -------------------------------------------------------------------------------------------------------

    def move_to(self, number: int) -> None:
        """Put the cursor there, seen."""
        self.cursor = max(0, min(number, self._count - 1))

    def watch_cursor(self, _: int, now: int) -> None:
        height = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if now < top:
            self.scroll_to(y=now, animate=False)
        elif now >= top + height:
            self.scroll_to(y=now - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved(self, self.current))

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_leap(self, pages: int) -> None:
        self.move_to(self.cursor + pages * max(self.size.height - 2, 1))

    def action_end(self, which: int) -> None:
        self.move_to(0 if which < 0 else self._count - 1)

    def action_choose(self) -> None:
        if line := self.current:
            self.post_message(self.Chosen(self, line))

    def on_click(self, event: events.Click) -> None:
        number = self.scroll_offset.y + event.y - 1
        if event.y == 0 or number >= self._count:
            return
        if number == self.cursor:
            self.action_choose()
        else:
            self.move_to(number)
