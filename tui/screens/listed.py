"""What the screens of tenants share: a filter, a table, and the detail of its line."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input, Static

from tui.backend.desk import Refused
from tui.place import Place
from tui.widgets.dialogs import Asked, Form
from tui.widgets.pair import Detail, Pair, Section
from tui.widgets.rows import Column, Line, Rows

T = TypeVar("T")


def copying(name: str) -> Binding:
    """`y`, under the screen's own name."""
    return Binding("y", "copy", "Copy", show=False, id=f"{name}.copy", tooltip="Copy the id under the cursor (OSC 52)")


class _Application(Protocol):
    def go(self, name: str) -> None: ...


class Listed(Place):
    AUTO_FOCUS = "Rows"
    COLUMNS: ClassVar[Sequence[Column]] = ()
    EMPTY: ClassVar[str] = ""
    HINT: ClassVar[str] = ""
    """What the filter understands."""

    DEFAULT_CSS = """
    Listed #bar { height: 1; background: $panel; }
    Listed #filter { width: 1fr; }
    Listed #count { width: auto; padding: 0 1; color: $text-muted; }
    """

    def body(self) -> ComposeResult:
        yield from self.bar()
        yield Pair(Rows(self.COLUMNS, id=self.NAME, empty="…"), Detail(id="detail"), id="pair")

    def bar(self) -> ComposeResult:
        with Horizontal(id="bar"):
            yield Input(placeholder=self.HINT, id="filter", compact=True)
            yield Static("", id="count", markup=False)

    async def _load(self) -> None:
        """What was there stays, when it cannot be asked anew."""
        try:
            await self.load()
        except Exception as error:  # as in Place
            self.table.empty = self.broken(error)
            self.table.refresh()
            self.say_count("not read anew")
            self.trouble(error)

    def broken(self, error: Exception) -> str:
        """Where there would be lines: an empty list would read as if there were none."""
        return f"This cannot be read ({type(error).__name__}); F5 asks again."

    # --- for who is one ---------------------------------------------------------------------------------------------

    async def detail_of(self, key: str) -> Sequence[Section]:
        """What is said of the line with this key, asked of the backend."""
        raise NotImplementedError

    def sift(self) -> None:
        """Show what the filter lets through."""
        raise NotImplementedError

    def copied(self, line: Line) -> str:
        return line.key

    # --- what it is made of -----------------------------------------------------------------------------------------

    @property
    def table(self) -> Rows:
        return self.query_one(f"#{self.NAME}", Rows)

    @property
    def pair(self) -> Pair:
        return self.query_one("#pair", Pair)

    @property
    def words(self) -> list[str]:
        return self.query_one("#filter", Input).value.casefold().split()

    def say_count(self, text: str) -> None:
        self.query_one("#count", Static).update(text)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self.sift()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self.table.focus()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        if event.rows is self.table:
            self.pair.open()
            self.tell()

    def on_rows_moved(self, event: Rows.Moved) -> None:
        if event.rows is self.table and self.pair.is_open:
            self.tell()

    def tell(self) -> None:
        """Ask the detail of what is under the cursor."""
        self.run_worker(self._tell, group="detail", exclusive=True)

    async def _tell(self) -> None:
        line = self.table.current
        detail = self.query_one("#detail", Detail)
        if line is None:
            detail.show([])
            return
        try:
            sections = await self.detail_of(line.key)
        except Exception as error:  # as in Place: a notice, and the traceback in the log
            self.trouble(error)
            return
        detail.show(sections)

    def action_filter(self) -> None:
        if self.pair.is_open and not self.pair.is_roomy:
            self.pair.close()
        self.query_one("#filter", Input).focus()

    def action_back(self) -> None:
        field = self.query_one("#filter", Input)
        if field.has_focus or not self.pair.is_open:
            field.value = ""
            self.table.focus()
        else:
            self.pair.close()

    def action_copy(self) -> None:
        if line := self.table.current:
            self.app.copy_to_clipboard(self.copied(line))
            self.notify(f"Copied {self.copied(line)}", markup=False)

    # --- doing ------------------------------------------------------------------------------------------------------

    def visit(self, name: str, words: str) -> None:
        """Go to that screen, its filter set to these words."""
        cast("_Application", self.app).go(name)
        there = self.app.screen

        def narrow() -> None:
            for field in there.query("#filter").results(Input):
                field.value = words

        there.call_after_refresh(narrow)

    def may(self) -> bool:
        """May who sits here change anything? Says so when not, before anything is asked."""
        try:
            self.desk.check()
        except Refused as error:
            self.trouble(error)
            return False
        return True

    async def fill(
        self,
        title: str,
        asked: Sequence[Asked],
        deed: Callable[[dict[str, str]], T],
        *,
        yes: str,
        done: Callable[[T], str],
        text: str = "",
        destructive: bool = False,
    ) -> T | None:
        """Ask for these values and have `deed` done with them, in a thread. What it refuses is said in the form, where
        nothing that was typed is lost. None when it was cancelled."""
        made: list[T] = []
        form = Form(
            title,
            asked,
            yes=yes,
            text=text,
            destructive=destructive,
            attempt=lambda given: made.append(deed(given)),
        )
        if await self.app.push_screen_wait(form) is None or not made:
            return None
        self.notify(done(made[0]), markup=False)
        self.action_reload()
        return made[0]
