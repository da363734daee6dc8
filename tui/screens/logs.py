"""What the processes write, live: filtered by process, level and text; followed, or held still."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from tui import words
from tui.backend import logs
from tui.place import Place
from tui.widgets.facts import Fact, Facts
from tui.widgets.rows import Column, Line, Rows

_TONES = {"debug": "muted", "warning": "warn", "error": "bad", "critical": "bad"}
_NO_LINE = "No line is wanted by all of text, process and level."
_LEVELS = ("debug", "info", "warning", "error")


class _Lines:
    """A view as the table asks for it."""

    def __init__(self, view: logs.View) -> None:
        self._view = view

    def count(self) -> int:
        return len(self._view)

    def window(self, first: int, count: int) -> Sequence[Line]:
        return [_line(str(first + place), one) for place, one in enumerate(self._view.entries(first, count))]


class Logs(Place):
    NAME = "logs"
    EVERY_S = 1.0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "slash",
            "filter",
            "Text",
            key_display="/",
            show=False,
            id="logs.filter",
            tooltip="Only lines with this in them",
        ),
        Binding("p", "process", "Process", id="logs.process", tooltip="All processes, or one after the other"),
        Binding("v", "level", "Level", id="logs.level", tooltip="The least grave level that is shown"),
        Binding("f,space", "follow", "Follow", id="logs.follow", tooltip="Follow what comes, or hold still"),
        Binding(
            "right_square_bracket", "error(1)", "Error", key_display="]", id="logs.next", tooltip="To the next error"
        ),
        Binding(
            "left_square_bracket",
            "error(-1)",
            "Back",
            key_display="[",
            show=False,
            id="logs.previous",
            tooltip="To the error before",
        ),
        Binding(
            "y", "copy", "Copy", show=False, id="logs.copy", tooltip="Copy the line under the cursor, as JSON has it"
        ),
        Binding(
            "escape", "close", "Close", show=False, id="logs.close", tooltip="Close the detail, or leave the field"
        ),
    ]
    CSS = """
    Logs #filter { height: 1; }
    Logs #state { height: 1; padding: 0 1; color: $text-muted; }
    Logs #nothing { height: auto; padding: 1; display: none; }
    Logs #lines { height: 1fr; }
    Logs #detail { height: auto; max-height: 50%; display: none; border-top: solid $primary; scrollbar-size: 1 1; }
    Logs #traceback { height: auto; padding: 0 1; color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._book: logs.Book | None = None
        self._view: logs.View | None = None
        self._wanted = logs.Wanted(level="info")
        self._is_following = True

    def body(self) -> ComposeResult:
        yield Input(placeholder="text to look for", compact=True, id="filter")
        yield Static(id="state", markup=False)
        yield Static(id="nothing", markup=False)
        yield Rows(
            [
                Column("Time", 8),
                Column("Process", 7),
                Column("Level", 8),
                Column("What", 40, grows=True),
            ],
            id="lines",
            empty=_NO_LINE,
        )
        with VerticalScroll(id="detail", can_focus=False):
            yield Facts(id="facts")
            yield Static(id="traceback", markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#lines", Rows).focus()

    def on_unmount(self) -> None:
        if self._book is not None:
            self._book.close()

    async def load(self) -> None:
        if not self._is_following and self._view is not None and self._view.wanted == self._wanted:
            return  # held still
        is_new = self._view is None or self._view.wanted != self._wanted
        try:
            view, came = await self.ask(self._read)
        except OSError as error:
            self._say_nothing(f"The log cannot be read: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
            return
        self._view = view
        rows = self.query_one("#lines", Rows)
        if is_new or came:
            await rows.follow(_Lines(view))
            if self._is_following:
                rows.move_to(len(view) - 1)
        self._say_state()

    def _read(self) -> tuple[logs.View, int]:
        """In a thread: what came since, of what is wanted."""
        if self._book is None:
            self._book = logs.open_(self.desk)
        self._book.refresh()
        view = self._view
        if view is None or view.wanted != self._wanted:
            view = logs.View(self._book, self._wanted)
        return view, view.extend()

    def _say_state(self) -> None:
        wanted = self._wanted
        if self._book is None:
            return
        self._say_nothing("" if len(self._book) else self._book.where)
        count = 0 if self._view is None else len(self._view)
        parts = [
            "▶ following" if self._is_following else "⏸ held still; f goes on",
            wanted.process or "all processes",
            wanted.level if wanted.level == "error" else f"{wanted.level} and graver",
            f"{count:,} of {len(self._book):,} lines",
        ]
        state = Text("  ·  ".join(parts))
        here = self.query_one("#state", Static)
        if here.content != state:
            here.update(state)

    def _say_nothing(self, why: str) -> None:
        """In the place of lines; an empty sentence gives it back to them."""
        nothing = self.query_one("#nothing", Static)
        self.query_one("#lines", Rows).empty = "" if why else _NO_LINE
        if nothing.display != bool(why):
            nothing.display = bool(why)
            nothing.update(why)

    # --- doing --------------------------------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._want(text=event.value)

    def on_input_submitted(self) -> None:
        self.query_one("#lines", Rows).focus()

    def action_process(self) -> None:
        found = ["", *(self._book.processes if self._book else [])]
        now = found.index(self._wanted.process) if self._wanted.process in found else 0
        self._want(process=found[(now + 1) % len(found)])

    def action_level(self) -> None:
        self._want(level=_LEVELS[(_LEVELS.index(self._wanted.level) + 1) % len(_LEVELS)])

    def action_follow(self) -> None:
        self._is_following = not self._is_following
        self._say_state()
        if self._is_following:
            self.query_one("#lines", Rows).action_end(1)
            self.action_reload()

    def action_error(self, step: int) -> None:
        if self._view is None:
            return
        rows = self.query_one("#lines", Rows)
        place = self._view.next_error(rows.cursor, step)
        if place is None:
            self.notify("There is no error further on." if step > 0 else "There is no error before.")
            return
        self._is_following = False
        rows.move_to(place)
        self._say_state()

    def action_copy(self) -> None:
        line = self.query_one("#lines", Rows).current
        if line is None or self._view is None:
            self.notify("There is nothing under the cursor.")
            return
        self.app.copy_to_clipboard(logs.as_json(self._view.entries(int(line.key), 1)[0]))
        self.notify("Copied")

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        self._is_following = False
        self._say_state()
        self.query_one("#detail").display = True
        self._show_detail(message.line)

    def on_rows_moved(self, message: Rows.Moved) -> None:
        if message.line is not None and self.query_one("#detail").display:
            self._show_detail(message.line)

    def action_close(self) -> None:
        detail = self.query_one("#detail")
        if detail.display:
            detail.display = False
        else:
            self.query_one("#lines", Rows).focus()

    def _want(self, *, process: str | None = None, level: str | None = None, text: str | None = None) -> None:
        was = self._wanted
        self._wanted = logs.Wanted(
            was.process if process is None else process,
            was.level if level is None else level,
            was.text if text is None else text,
        )
        self.action_reload()

    def _show_detail(self, line: Line) -> None:
        if self._view is None:
            return
        (one,) = self._view.entries(int(line.key), 1)
        facts: list[Fact] = [
            ("time", words.moment(one.at)),
            ("process", f"{one.process}, {one.logger}"),
            ("level", one.level),
            ("event", one.event),
            *((name, str(value)) for name, value in one.fields.items()),
        ]
        self.query_one("#facts", Facts).show(facts)
        self.query_one("#traceback", Static).update(Text(one.traceback))


def _line(key: str, one: logs.Entry) -> Line:
    said = Text(one.event)
    for name, value in one.fields.items():
        said.append(f"  {name}=", "dim").append(str(value))
    if one.traceback:
        said.append("  ⏎ traceback", "dim")
    return Line(key, (words.moment(one.at)[11:], one.process, one.level.upper(), said), _TONES.get(one.level, ""))


SCREEN = Logs
