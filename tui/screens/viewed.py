"""A screen of several tables, one seen at a time: a line that names them, a filter, and what is undone with `u`."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import ContentSwitcher, Input, Static

from tui.backend.desk import Refused
from tui.place import Place
from tui.widgets.dialogs import REASON, Asked, Form, Told
from tui.widgets.rows import Line, Rows

T = TypeVar("T")


class Viewed(Place):
    VIEWS: ClassVar[Sequence[tuple[str, str, str]]] = ()
    """(name, key, title): a widget of that id is in the switcher; its table is NAME-rows."""
    ONLY_IN: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Action → the views in which it is; those not named are everywhere."""
    HINTS: ClassVar[Mapping[str, str]] = {}
    """View → what its filter looks for."""

    DEFAULT_CSS = """
    Viewed #bar { height: 1; background: $panel; }
    Viewed #tabs { width: auto; padding: 0 1; }
    Viewed #filter { width: 1fr; }
    Viewed #count { width: auto; padding: 0 1; color: $text-muted; }
    Viewed #views { height: 1fr; }
    Viewed .about { height: auto; max-height: 8; padding: 0 1; border-top: solid $panel; color: $text; }
    """

    view = ""
    _undo: tuple[str, Callable[[], object]] | None = None

    def __init__(self) -> None:
        super().__init__()
        self._empties: dict[str, str] = {}
        self._said_empty: dict[str, str] = {}

    def body(self) -> ComposeResult:
        self.view = self.VIEWS[0][0]
        with Horizontal(id="bar"):
            yield Static("", id="tabs", markup=False)
            yield Input(placeholder=self.HINTS.get(self.view, "Filter"), id="filter", compact=True)
            yield Static("", id="count", markup=False)
        with ContentSwitcher(initial=self.view, id="views"):
            yield from self.views()

    def views(self) -> ComposeResult:
        """One widget a view, with its name as the id."""
        raise NotImplementedError

    def sift(self) -> None:
        """Show what the filter lets through."""
        raise NotImplementedError

    # --- where one is ------------------------------------------------------------------------------------------------

    @property
    def table(self) -> Rows:
        return self.query_one(f"#{self.view}-rows", Rows)

    @property
    def words(self) -> list[str]:
        return self.query_one("#filter", Input).value.casefold().split()

    def on_mount(self) -> None:
        super().on_mount()
        self.show_view(self.view)

    def action_view(self, name: str) -> None:
        self.show_view(name)

    def show_view(self, name: str) -> None:
        self.view = name
        self.query_one("#views", ContentSwitcher).current = name
        said = Text()
        for one, key, title in self.VIEWS:
            if key:
                said.append(f" {key} {title} ", style="reverse" if one == name else "")
        self.query_one("#tabs", Static).update(said)
        field = self.query_one("#filter", Input)
        field.placeholder = self.HINTS.get(name, "Filter")
        field.value = ""
        self.table.focus()
        self.refresh_bindings()
        self.sift()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        views = self.ONLY_IN.get(action)
        return (
            None if views is None and action == "undo" and self._undo is None else views is None or self.view in views
        )

    def say_count(self, shown: int, of: int) -> None:
        self.query_one("#count", Static).update(f"{shown:,}" if shown == of else f"{shown:,} of {of:,}")

    def show_sifted(self, lines: Sequence[Line]) -> None:
        """Of these what the filter lets through."""
        wanted, rows = self.words, self.table
        shown = [one for one in lines if all(word in plain(one) for word in wanted)]
        self._said_empty.setdefault(rows.id or "", rows.empty)
        nothing_like_it = "Nothing is like that: escape clears the filter."
        rows.empty = nothing_like_it if lines else self._said_empty[rows.id or ""]
        rows.show(shown)
        self.say_count(len(shown), len(lines))

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self.sift()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self.table.focus()

    def action_back(self) -> None:
        self.query_one("#filter", Input).value = ""
        self.table.focus()

    def action_copy(self) -> None:
        if line := self.table.current:
            said = self.copied(line)
            self.app.copy_to_clipboard(said)
            self.notify(f"Copied {said}", markup=False)

    def copied(self, line: Line) -> str:
        return line.key

    async def _load(self) -> None:
        """As every screen loads; what could not be read is said where it would stand, too."""
        try:
            await self.load()
        except Exception as error:  # as in Place
            message = str(getattr(error, "message", "")) or f"{type(error).__name__}: {error}"
            rows = self.table
            self._empties.setdefault(rows.id or "", rows.empty)
            rows.empty = f"This could not be read: {message} (F5 tries again)"
            rows.refresh()
            self.trouble(error)
            return
        for rows in self.query(Rows):
            if (empty := self._empties.pop(rows.id or "", None)) is not None:
                rows.empty = empty
                rows.refresh()

    async def tell(self, title: str, text: str | Text) -> None:
        """Show something long, to be closed."""
        await self.app.push_screen_wait(Told(title, text))

    # --- doing -------------------------------------------------------------------------------------------------------

    def may(self) -> bool:
        """May who sits here change anything? Says so when not, before anything is asked."""
        try:
            self.desk.check()
        except Refused as error:
            self.trouble(error)
            return False
        return True

    async def reasoned(
        self,
        title: str,
        text: str,
        deed: Callable[[str], T],
        *,
        yes: str,
        done: str,
        destructive: bool = False,
        undo: tuple[str, Callable[[], object]] | None = None,
    ) -> bool:
        """Ask for a reason, do it, say so; whether it was done."""
        return await self.filled(
            title, [REASON], lambda given: deed(given["reason"]), yes=yes, done=done, text=text,
            destructive=destructive, undo=undo,
        )  # fmt: skip

    async def filled(
        self,
        title: str,
        asked: Sequence[Asked],
        deed: Callable[[dict[str, str]], T],
        *,
        yes: str,
        done: str | Callable[[T], str],
        text: str = "",
        destructive: bool = False,
        undo: tuple[str, Callable[[], object]] | None = None,
    ) -> bool:
        """A form whose values are done before it closes: what is refused is said in it, and nothing typed is lost."""
        made: list[T] = []
        given = await self.app.push_screen_wait(
            Form(title, asked, yes=yes, text=text, destructive=destructive, attempt=lambda one: made.append(deed(one)))
        )
        if given is None:
            return False
        self._undo = undo
        self.refresh_bindings()
        said = done if isinstance(done, str) else done(made[0])
        self.notify(f"{said}  (u undoes it)" if undo else said, markup=False)
        self.action_reload()
        return True

    async def action_undo(self) -> None:
        if self._undo is None:
            self.notify("There is nothing to undo.")
            return
        said, deed = self._undo
        self._undo = None
        self.refresh_bindings()
        await self.do(deed, said)


def plain(line: Line) -> str:
    """What a filter looks in."""
    return " ".join(str(cell) for cell in line.cells).casefold()
