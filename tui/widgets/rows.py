"""A table of any length: only the lines that are seen are asked for and drawn.

A source answers how many rows there are, and for a window of them. It may block: it is asked in a thread, a page at a
time, the page that is looked at first; what has not come yet is drawn as a dot. Pages far from what is seen are let go.
A short list needs no source: `show` takes it as it is.

What stands in a cell may be anybody's words: markup is not read, and nothing in it steers the terminal (cells.py).
"""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

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

from tui.widgets.cells import cleaned, fit

PAGE = 200
KEPT = 24
"""Pages of a source that are held; the farthest from what is seen go first."""
_DRAWN = 512  # lines that are remembered as they were drawn
_GAP = 2  # columns between columns


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
    sorts: bool = False
    """A short list is put in this column's order by a click on its head, or by < and >."""


@dataclass(frozen=True)
class Line:
    """One row: `key` is what is asked for when it is chosen."""

    key: str
    cells: tuple[str | Text, ...]
    tone: str = ""
    """A component class of the table for the whole line: "", "muted", "good", "warn", "bad"."""
    values: tuple[Any, ...] = ()
    """What each cell is sorted by, where its letters say it wrongly ("3 min" and "2 d")."""


class Source(Protocol):
    """Where lines come from; both are called in a thread and may raise what the backend raises."""

    def count(self) -> int: ...

    def window(self, first: int, count: int) -> Sequence[Line]: ...


@runtime_checkable
class Placing(Protocol):
    """A source that can say where a key stands now: the cursor then stays on its line when others come above it."""

    def place(self, key: str, near: int) -> int | None:
        """Its number, or None when it is gone; it was at `near`."""
        ...


@runtime_checkable
class Ordering(Protocol):
    """A source that can be read in another order."""

    orders: Sequence[int]
    """The columns that it can be sorted by."""

    def ordered(self, column: int | None, descending: bool) -> Source:
        """The same in that order; None = its own."""
        ...


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
        Binding("up,k", "move(-1)", "Up", show=False, id="rows.up", tooltip="One line up"),
        Binding("down,j", "move(1)", "Down", show=False, id="rows.down", tooltip="One line down"),
        Binding("pageup", "leap(-1)", "Page up", show=False, id="rows.page_up", tooltip="One page up"),
        Binding("pagedown", "leap(1)", "Page down", show=False, id="rows.page_down", tooltip="One page down"),
        Binding("home", "end(-1)", "First", show=False, id="rows.first", tooltip="The first line"),
        Binding("end,G", "end(1)", "Last", show=False, id="rows.last", tooltip="The last line"),
        Binding("enter", "choose", "Open", id="rows.open", tooltip="Open the line under the cursor"),
        Binding(
            "less_than_sign",
            "sort(-1)",
            "Sort left",
            show=False,
            id="rows.sort_left",
            key_display="<",
            tooltip="Sort by the column to the left, where the table can be sorted",
        ),
        Binding(
            "greater_than_sign",
            "sort(1)",
            "Sort right",
            show=False,
            id="rows.sort_right",
            key_display=">",
            tooltip="Sort by the column to the right, upwards, then downwards",
        ),
    ]
    DEFAULT_CSS = """
    Rows { height: 1fr; background: $surface; scrollbar-size: 1 1; }
    Rows > .rows--head { color: $text-muted; text-style: bold; background: $panel; }
    Rows > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    Rows > .rows--muted { color: $text-muted; }
    Rows > .rows--good { color: $text-success; }
    Rows > .rows--warn { color: $text-warning; }
    Rows > .rows--bad { color: $text-error; }
    """

    cursor: reactive[int] = reactive(0, repaint=False)

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

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        id: str | None = None,
        empty: str = "Nothing here yet.",
        has_head: bool = True,
    ) -> None:
        super().__init__(id=id)
        self._head = int(has_head)
        self.columns = tuple(columns)
        self.empty = empty
        """What stands there when there is nothing."""
        self.source: Source | None = None
        self.tails = False
        """On the first line the cursor stays on the first line, whatever comes above it."""
        self.sorted_by: tuple[int, bool] | None = None
        """(column, descending), None = as it came."""
        self._read: Source | None = None
        """The source that what stands there is from; the same as `source`, unless that raised."""
        self._given: Sequence[Line] = ()
        self._count = 0
        self._pages: dict[int, Sequence[Line]] = {}
        self._failed: set[int] = set()
        self._is_fetching = False
        self._epoch = 0
        self._drawn: OrderedDict[tuple[int, bool], Strip] = OrderedDict()
        self._styles: dict[str, Style] = {}
        self._laid: tuple[tuple[Size, bool], list[tuple[int, Column, int]]] | None = None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def show(self, lines: Sequence[Line]) -> None:
        """These, at once; the cursor stays on its line's key when it is still there."""
        self.source = None
        self._given = lines
        self._lay_out(self._in_order(lines))

    def lay(self, columns: Sequence[Column]) -> None:
        """Other columns, for other lines that come next."""
        if tuple(columns) != self.columns:
            self.columns, self._laid, self.sorted_by = tuple(columns), None, None
            self._lay_out(())

    async def follow(self, source: Source) -> None:
        """Lines of this source from now on; returns when what is seen is there. Called again, it is asked anew; what
        was there stays until then."""
        self.source = source
        self._given = ()
        self._epoch += 1
        epoch, key = self._epoch, self._kept_key()
        asked = source
        if self.sorted_by is not None and isinstance(source, Ordering) and self.sorted_by[0] in source.orders:
            asked = source.ordered(*self.sorted_by)
            self.source = asked
        try:
            count, cursor, pages = await asyncio.to_thread(self._first_look, asked, key)
        except Exception as error:  # whatever the source raises is told, never lost in a task
            self.post_message(self.Broken(self, error))
            return
        if epoch == self._epoch:
            self._read = asked
            self._settle(count, pages, cursor)

    def grow(self, count: int) -> None:
        """The source has found more of what comes last: what was there stays as it is."""
        if self.source is None or self.source is not self._read or count == self._count:
            return
        self._pages.pop((self._count - 1) // PAGE, None)  # it may have been half a page
        self._drawn.clear()
        self._count = count
        self.virtual_size = Size(0, count + self._head)
        self._want()
        self.refresh()

    @property
    def row_count(self) -> int:
        return self._count

    @property
    def current(self) -> Line | None:
        """The line under the cursor, if it has come."""
        return self.line_at(self.cursor)

    def line_at(self, number: int) -> Line | None:
        page = self._pages.get(number // PAGE)
        return page[number % PAGE] if page is not None and 0 <= number % PAGE < len(page) else None

    def window(self, first: int, count: int) -> Sequence[Line]:
        """Lines by their numbers, for who writes all of them somewhere. Asks the source: call it in a thread."""
        if self.source is not None:
            return self.source.window(first, count)
        return self._in_order(self._given)[first : first + count]

    def _kept_key(self) -> str | None:
        if self.tails and self.cursor == 0:
            return None
        return line.key if (line := self.current) else None

    def _lay_out(self, lines: Sequence[Line]) -> None:
        key = self._kept_key()
        self._epoch += 1
        place = next((n for n, one in enumerate(lines) if one.key == key), None) if key is not None else None
        cursor = min(self.cursor if place is None else place, max(len(lines) - 1, 0))
        pages = {page: lines[page * PAGE : (page + 1) * PAGE] for page in range(-(-len(lines) // PAGE))}
        self._settle(len(lines), pages, cursor)

    def _first_look(self, source: Source, key: str | None) -> tuple[int, int, dict[int, Sequence[Line]]]:
        """How many there are, where the cursor's line is now, and all pages that are then seen. In a thread."""
        count = source.count()
        cursor = self.cursor
        if key is not None and isinstance(source, Placing):
            place = source.place(key, cursor)
            cursor = cursor if place is None else place
        cursor = min(cursor, max(count - 1, 0))
        top = self.scroll_offset.y + cursor - self.cursor
        seen = {cursor // PAGE, *(n // PAGE for n in (top, top + self.size.height) if 0 <= n < count)} if count else ()
        return count, cursor, {page: source.window(page * PAGE, PAGE) for page in seen}

    def _settle(self, count: int, pages: dict[int, Sequence[Line]], cursor: int) -> None:
        """Put these in the place of all that was there; the cursor's line stays where it is seen."""
        top = self.scroll_offset.y + cursor - self.cursor
        self._count, self._pages, self._failed = count, pages, set()
        self._drawn.clear()
        self.virtual_size = Size(0, count + self._head)
        if cursor != self.cursor:
            self.scroll_to(y=max(top, 0), animate=False, force=True)
            self.cursor = cursor
        else:
            self.post_message(self.Moved(self, self.current))
        self.refresh()

    # --- pages of a source --------------------------------------------------------------------------------------------

    def _want(self) -> None:
        """See that what is looked at comes, and then what is next to it."""
        if self.source is not None and not self._is_fetching and self._next_page() is not None:
            self._is_fetching = True
            self.run_worker(self._fetch, group="rows")

    def _next_page(self) -> int | None:
        last = (self._count - 1) // PAGE
        top, cursor = self.scroll_offset.y // PAGE, self.cursor // PAGE
        bottom = (self.scroll_offset.y + max(self.size.height, 1)) // PAGE
        for page in (top, bottom, cursor, bottom + 1, top - 1):
            if 0 <= page <= last and page not in self._pages and page not in self._failed:
                return page
        return None

    async def _fetch(self) -> None:
        """One page after the other, each time the one that is then missed most: who drags the scroll bar over a
        million lines leaves no queue behind."""
        try:
            while (source := self.source) is not None and (page := self._next_page()) is not None:
                epoch = self._epoch
                try:
                    lines = await asyncio.to_thread(source.window, page * PAGE, PAGE)
                except Exception as error:  # as in follow
                    if epoch == self._epoch:
                        self._failed.add(page)
                        self.post_message(self.Broken(self, error))
                    continue
                if epoch != self._epoch:
                    continue
                self._pages[page] = lines
                self._let_go()
                self._paint_page(page)
                if self.cursor // PAGE == page:
                    self.post_message(self.Moved(self, self.current))
        finally:
            self._is_fetching = False

    def _let_go(self) -> None:
        seen = self.scroll_offset.y // PAGE
        spare = sorted(self._pages.keys() - {self.cursor // PAGE}, key=lambda page: abs(page - seen))
        for page in spare[KEPT:]:
            del self._pages[page]

    def _paint_page(self, page: int) -> None:
        top = self.scroll_offset.y
        first, last = max(page * PAGE, top), min((page + 1) * PAGE, top + self.size.height)
        if first < last:
            for number in range(first, last):
                self._forget(number)
            self.refresh()

    # --- order --------------------------------------------------------------------------------------------------------

    def _sortable(self) -> list[int]:
        if isinstance(self.source, Ordering):
            return sorted(self.source.orders)
        return [] if self.source is not None else [n for n, one in enumerate(self.columns) if one.sorts]

    def sort(self, column: int | None, descending: bool = False) -> None:
        """Put what is there in this order; a source that cannot keeps its own."""
        if column is not None and column not in self._sortable():
            return
        self.sorted_by = None if column is None else (column, descending)
        if self.source is None:
            self._lay_out(self._in_order(self._given))
        elif isinstance(self.source, Ordering):
            ordered = self.source.ordered(column, descending)
            self.run_worker(partial(self.follow, ordered), group="rows", exclusive=False)

    def action_sort(self, by: int) -> None:
        """The next or previous of: as it came, the first column upwards, downwards, the second upwards, …"""
        states: list[tuple[int, bool] | None] = [None]
        states += [(column, descending) for column in self._sortable() for descending in (False, True)]
        here = states.index(self.sorted_by) if self.sorted_by in states else 0
        chosen = states[(here + by) % len(states)]
        if len(states) > 1:
            self.sort(*(chosen or (None, False)))

    def _in_order(self, lines: Sequence[Line]) -> Sequence[Line]:
        if self.sorted_by is None:
            return lines
        column, descending = self.sorted_by
        return sorted(lines, key=lambda line: _sort_value(line, column), reverse=descending)

    # --- drawing ------------------------------------------------------------------------------------------------------

    def widths(self) -> list[tuple[int, Column, int]]:
        """(place, column, width) of those that there is room for."""
        shape = (self.size, self.show_vertical_scrollbar)
        if self._laid is not None and self._laid[0] == shape:  # asked for every line, so as little as can be
            return self._laid[1]
        room = self.scrollable_content_region.width or self.size.width
        seen = [(n, one) for n, one in enumerate(self.columns) if room >= one.least]
        spare = room - sum(one.width for _, one in seen) - _GAP * max(len(seen) - 1, 0)
        growing = sum(one.grows for _, one in seen)
        laid = [(n, one, max(one.width + (spare // growing if one.grows else 0), 1)) for n, one in seen]
        self._laid = (shape, laid)
        self._drawn.clear()
        return laid

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y < self._head:
            style = self.get_component_rich_style("rows--head")
            return self._strip(tuple(map(self._heading, range(len(self.columns)))), style, width)
        number = self.scroll_offset.y + y - self._head
        if number >= self._count:
            if self._count == 0 and y == self._head:
                style = self.get_component_rich_style("rows--muted")
                return Strip([Segment(fit(self.empty, width), style)], width)
            return Strip.blank(width, self.rich_style)
        self.widths()
        is_here = number == self.cursor and (self.has_focus or self.screen.focused is not None)
        place = (number, is_here)
        strip = self._drawn.get(place)
        if strip is not None and strip.cell_length == width:
            return strip
        line = self.line_at(number)
        if line is None:
            self._want()
            return self._strip(("·",), self._style("cursor" if is_here else "muted"), width)
        strip = self._strip(line.cells, self._style("cursor" if is_here else line.tone), width, plain=is_here)
        self._drawn[place] = strip
        if len(self._drawn) > _DRAWN:
            self._drawn.popitem(last=False)
        return strip

    def _heading(self, column: int) -> str:
        title = self.columns[column].title
        if self.sorted_by is None or self.sorted_by[0] != column:
            return title
        return f"{title} {'▼' if self.sorted_by[1] else '▲'}"

    def _style(self, tone: str) -> Style:
        style = self._styles.get(tone)
        if style is None:
            style = self.get_component_rich_style(f"rows--{tone}") if tone else self.rich_style
            self._styles[tone] = style
        return style

    def _strip(self, cells: tuple[str | Text, ...], style: Style, width: int, *, plain: bool = False) -> Strip:
        segments: list[Segment] = []
        said: list[str] = []  # of the line's own style, not yet a segment
        length = 0
        for place, column, room in self.widths():
            if length >= width:
                break
            gap = _GAP if length else 0
            room = min(room, max(width - length - gap, 0))
            cell = cleaned(cells[place]) if place < len(cells) else ""
            if plain and isinstance(cell, Text):
                cell = cell.plain
            said.append(" " * min(gap, width - length))
            if isinstance(cell, str):
                said.append(fit(cell, room, to_right=column.align == "right"))
            else:
                segments.append(Segment("".join(said), style))
                said.clear()
                segments += Segment.apply_style(self._piece(cell, room, column.align), style)
            length = min(length + gap, width) + room
        said.append(" " * (width - length))
        segments.append(Segment("".join(said), style))
        return Strip([one for one in segments if one.text], width)

    def _piece(self, cell: Text, room: int, align: Literal["left", "right"]) -> list[Segment]:
        piece = cell.copy()
        piece.end = ""
        piece.truncate(room, overflow="ellipsis")
        piece.align(align, room)
        return list(piece.render(self.app.console))

    def _forget(self, number: int) -> None:
        self._drawn.pop((number, True), None)
        self._drawn.pop((number, False), None)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._drawn.clear()
        self._styles.clear()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._want()

    # --- moving -------------------------------------------------------------------------------------------------------

    def move_to(self, number: int) -> None:
        """Put the cursor there, seen."""
        self.cursor = max(0, min(number, self._count - 1))

    def see_cursor(self) -> None:
        """Scroll as little as needed for its line to be seen."""
        height = max(self.size.height - self._head, 1)
        top, now = self.scroll_offset.y, self.cursor
        # by force: how long the table is may be known before it was laid out
        if now < top:
            self.scroll_to(y=now, animate=False, force=True)
        elif now >= top + height:
            self.scroll_to(y=now - height + 1, animate=False, force=True)

    def on_resize(self) -> None:
        self.see_cursor()

    def watch_cursor(self, before: int, now: int) -> None:
        height = max(self.size.height - self._head, 1)
        top = self.scroll_offset.y
        self.see_cursor()
        if self.scroll_offset.y == top:  # else all of it is painted anyway
            for number in (before, now):
                if 0 <= number - top < height:
                    self.refresh_line(number + self._head)
        self.post_message(self.Moved(self, self.current))

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_leap(self, pages: int) -> None:
        self.move_to(self.cursor + pages * max(self.size.height - self._head - 1, 1))

    def action_end(self, which: int) -> None:
        self.move_to(0 if which < 0 else self._count - 1)

    def action_choose(self) -> None:
        if line := self.current:
            self.post_message(self.Chosen(self, line))

    def on_click(self, event: events.Click) -> None:
        if event.y < self._head:
            self._click_head(event.x)
            return
        number = self.scroll_offset.y + event.y - self._head
        if number >= self._count:
            return
        if number == self.cursor:
            self.action_choose()
        else:
            self.move_to(number)

    def _click_head(self, x: int) -> None:
        left = 0
        for place, _, room in self.widths():
            if left <= x < left + room + _GAP:
                if self.sorted_by == (place, True):
                    self.sort(None)
                else:
                    self.sort(place, self.sorted_by == (place, False))
                return
            left += room + _GAP


def _sort_value(line: Line, column: int) -> tuple[int, Any]:
    """Nothing last, numbers by size, words without regard to capitals."""
    if column < len(line.values):
        value = line.values[column]
        if value is None:
            return (2, "")
        return (1, value.casefold()) if isinstance(value, str) else (0, value)
    cell = line.cells[column] if column < len(line.cells) else ""
    return (1, str(cell).casefold())
