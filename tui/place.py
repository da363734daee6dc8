"""What every screen is: a line on top, below it what is wrong if anything is, places on the left where there is room,
the body, keys at the bottom.

A screen renders and asks. `ask` puts a question to the backend in a thread; `do` has something done there, says how it
went and loads again. Neither ever freezes the keys, and neither loses an error.
"""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, cast

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from tui import export, places
from tui.backend.desk import Desk, Refused
from tui.widgets.dialogs import Asked, Confirm, Form
from tui.widgets.rows import Rows

T = TypeVar("T")

WIDE = 120
"""Columns from which the places stand on the left."""


class _Desked(Protocol):
    """The application, as far as a screen knows it."""

    desk: Desk
    alarms: Sequence[str]

    def go(self, name: str) -> None: ...


class Rail(Static):
    """The places; a click goes there."""

    def on_click(self, event: events.Click) -> None:
        line = event.y - 1  # one is left free above
        if 0 <= line < len(places.PLACES):
            cast("_Desked", self.app).go(places.PLACES[line].name)


class Place(Screen[None]):
    """One of tui/places.py. Subclasses say NAME, `body` and `load`."""

    NAME: ClassVar[str] = ""
    AUTO_FOCUS: ClassVar[str | None] = "#body Rows"
    """Not a field: letters are actions until somebody goes into one."""
    EVERY_S: ClassVar[float | None] = None
    """Loads again so often while it is seen; None = only when asked to."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r,f5", "reload", "Reload", show=False, id="place.reload", tooltip="Ask for everything anew"),
        Binding(
            "slash", "filter", "Filter", key_display="/", show=False, id="place.filter", tooltip="Type what to look for"
        ),
        Binding(
            "e", "export", "Export", show=False, id="place.export", tooltip="Write the table to a file, as CSV or JSON"
        ),
        Binding("escape", "back", "Back", show=False, id="place.back", tooltip="Leave the field, to the table"),
    ]

    def compose(self) -> ComposeResult:
        yield Static(id="top")
        yield Static(id="banner", markup=False)
        with Horizontal(id="middle"):
            yield Rail(id="rail")
            with Vertical(id="body"):
                yield from self.body()
        yield Footer(compact=True, show_command_palette=False)

    def body(self) -> ComposeResult:
        """The widgets of this screen."""
        raise NotImplementedError

    async def load(self) -> None:
        """Ask what is shown, and show it. Called on arrival, on F5, every EVERY_S and after each `do`."""

    @property
    def desk(self) -> Desk:
        return cast("_Desked", self.app).desk

    def on_mount(self) -> None:
        if self.EVERY_S is not None:
            self.set_interval(self.EVERY_S, self._load_if_seen)

    def on_screen_resume(self) -> None:
        self._say_where()
        self.say_alarms()
        self.action_reload()

    def on_resize(self) -> None:
        self._say_where()

    def _say_where(self) -> None:
        here = places.BY_NAME[self.NAME]
        top = Text.assemble((" Customhouse ", "bold reverse"), f"  {here.title}")
        if not self.desk.access.may_change:
            top.append("   read only", style="bold yellow")
        self.query_one("#top", Static).update(top)
        rail = self.query_one("#rail", Static)
        rail.display = self.app.size.width >= WIDE
        lines = Text()
        for one in places.PLACES:
            style = "reverse" if one.name == self.NAME else ""
            lines.append(f" {one.key}  {one.title:<18}\n", style=style)
        rail.update(lines)

    def say_alarms(self) -> None:
        """What is wrong with this box, below the top; nothing when nothing is."""
        alarms = cast("_Desked", self.app).alarms
        banner = self.query_one("#banner", Static)
        banner.display = bool(alarms)
        banner.update("\n".join(f"▲ {one}" for one in alarms))

    def _load_if_seen(self) -> None:
        if self.is_current:
            self.action_reload()

    def action_reload(self) -> None:
        self.run_worker(self._load, group="load", exclusive=True)

    async def _load(self) -> None:
        try:
            await self.load()
        except Exception as error:  # the TUI's worker: a notice, and the traceback in the log
            self.trouble(error)

    # --- what every screen does ---------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """To the field that narrows down what is shown, where there is one."""
        for field in self.query("#filter"):
            field.focus()
            return
        self.notify("Nothing is filtered here.")

    def action_back(self) -> None:
        """Out of a field, to the table."""
        if isinstance(self.focused, Input):
            for rows in self.query(Rows):
                rows.focus()
                return

    @work(exclusive=True, group="export")
    async def action_export(self) -> None:
        """Write all rows of the table that has the focus, or of the first one, to a file."""
        rows = self.focused if isinstance(self.focused, Rows) else next(iter(self.query(Rows)), None)
        if rows is None:
            self.notify("There is no table here.")
            return
        given = await self.app.push_screen_wait(
            Form(
                "Export the table",
                [
                    Asked("path", "File", f"~/{rows.id or self.NAME}.csv", is_required=True),
                    Asked("kind", "As", choices=("by its ending", *export.FORMATS)),
                ],
                yes="Export",
                text="All rows as they stand here, not only those that are seen. The file is yours alone (0600).",
            )
        )
        if given is None:
            return
        path = export.place(given["path"])
        kind = given["kind"] if given["kind"] in export.FORMATS else export.kind_of(path)
        if path.is_dir():
            self.trouble(Refused(f"{path} is a folder; name a file in it"))
            return
        is_there = path.exists()
        if is_there and not await self.app.push_screen_wait(
            Confirm("Replace the file?", f"{path} exists. What is in it is lost.", yes="Replace")
        ):
            return
        titles = [one.title for one in rows.columns]
        try:
            count = await self.ask(
                lambda: export.write(path, kind, titles, export.lines(rows.window), replace=is_there)
            )
        except export.AlreadyThere:
            self.trouble(Refused(f"{path}: somebody made it meanwhile; nothing is written"))
        except OSError as error:
            self.trouble(Refused(f"{path}: cannot be written ({error.strerror})"))
        except Exception as error:  # whatever the source raises
            self.trouble(error)
        else:
            self.notify(f"{count:,} rows are in {path}", markup=False)

    # --- asking the backend -------------------------------------------------------------------------------------------

    async def ask(self, question: Callable[[], T]) -> T:
        """What the backend answers, asked in a thread. Raises what it raises: `load` may let it."""
        return await asyncio.to_thread(question)

    async def do(self, deed: Callable[[], T], done: str | Callable[[T], str]) -> T | None:
        """Have it done in a thread; say so, and load again. None when it was refused, which is said too."""
        try:
            result = await asyncio.to_thread(deed)
        except Exception as error:  # as in _load
            self.trouble(error)
            return None
        self.notify(done if isinstance(done, str) else done(result), markup=False)
        self.action_reload()
        return result

    def trouble(self, error: Exception) -> None:
        """Say what went wrong."""
        if isinstance(error, Refused):
            self.notify(error.message, title="Not done", severity="error", timeout=10, markup=False)
            return
        logging.getLogger(__name__).exception("screen failed", exc_info=error, extra={"screen": self.NAME})
        sentence = f"{type(error).__name__}: {error}"
        self.notify(sentence, title="Something went wrong", severity="error", timeout=10, markup=False)

    def on_rows_broken(self, message: Rows.Broken) -> None:
        self.trouble(message.error)
