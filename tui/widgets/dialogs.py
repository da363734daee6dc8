"""Questions that stop the world, typed by their answer; None or False is "no". Cancel is where the focus begins."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar, cast

from rich.segment import Segment
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, ScreenResultType
from textual.strip import Strip
from textual.widgets import Button, Input, Label, Select, SelectionList, Static, TextArea

from tui.widgets.cells import clean, clean_lines
from tui.widgets.rows import Column, Line, Rows

T = TypeVar("T")


class _Dialog(ModalScreen[ScreenResultType]):
    """A box in the middle. Escape is cancel. What is longer than the terminal scrolls inside it."""

    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-tall")]  # noqa: RUF012  # as Textual types it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="dialog.cancel", tooltip="Close it; nothing is done"),
        Binding(
            "left,up", "app.focus_previous", "Previous", show=False, id="dialog.previous", tooltip="The button before"
        ),
        Binding("right,down", "app.focus_next", "Next", show=False, id="dialog.next", tooltip="The button after"),
        Binding("pageup", "turn(-1)", "Text up", show=False, id="dialog.page_up", tooltip="Scroll a long text up"),
        Binding("pagedown", "turn(1)", "Text down", show=False, id="dialog.page_down", tooltip="Scroll it down"),
    ]
    DEFAULT_CSS = """
    _Dialog { align: center middle; }
    _Dialog > #box { width: 72; max-width: 95%; height: auto; max-height: 100%; padding: 1 2; border: round $primary;
        background: $surface; }
    _Dialog.destructive > #box { border: round $error; }
    _Dialog #title { text-style: bold; width: 100%; }
    _Dialog #said { height: auto; max-height: 50vh; margin: 1 0; scrollbar-size: 1 1; }
    _Dialog #text { width: 100%; height: auto; }
    _Dialog #fields { height: auto; max-height: 50vh; scrollbar-size: 1 1; }
    _Dialog .label { color: $text-muted; width: 100%; }
    _Dialog SelectionList { border: none; padding: 0; }
    _Dialog .help { color: $text-muted; text-style: italic; width: 100%; }
    _Dialog #wrong { color: $text-error; width: 100%; height: auto; max-height: 3; }
    _Dialog #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    _Dialog Button { margin-left: 2; }
    _Dialog.-low > #box { padding: 0 2; }
    _Dialog.-low #said { margin: 0; }
    _Dialog.-low.asking #said { max-height: 25vh; }
    _Dialog.-low #fields { max-height: 40vh; }
    _Dialog.-low.long #fields { max-height: 60vh; }
    """

    def said(self, text: str) -> VerticalScroll:
        """A text of any length; pgup and pgdn turn its pages wherever the focus is."""
        return VerticalScroll(Static(clean_lines(text), id="text", markup=False), id="said", can_focus=False)

    def action_turn(self, pages: int) -> None:
        for one in self.query("#said"):
            one.scroll_relative(y=pages * max(one.size.height - 1, 1), animate=False)

    def action_cancel(self) -> None:
        raise NotImplementedError


class Confirm(_Dialog[bool]):
    """Yes or no. `word`: has to be typed before yes can be said, for what cannot be taken back."""

    def __init__(self, title: str, text: str, *, yes: str, word: str = "", destructive: bool = True) -> None:
        super().__init__(classes="destructive" if destructive else "")
        self._words = (title, text, yes)
        self._word = word
        self._destructive = destructive

    def compose(self) -> ComposeResult:
        title, text, yes = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            yield self.said(text)
            if self._word:
                yield Label(f"Type {self._word} to go on", classes="label", markup=False)
                yield Input(id="word", compact=True)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(yes, id="yes", variant="error" if self._destructive else "primary")

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()
        self.query_one("#yes", Button).disabled = bool(self._word)

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = event.value.strip() != self._word

    def on_input_submitted(self) -> None:
        if not self.query_one("#yes", Button).disabled:
            self.query_one("#yes", Button).focus()  # typed, and then said

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_cancel(self) -> None:
        self.dismiss(False)


class Ticks(SelectionList[str]):
    """Words to tick. Textual tells ticked from not by colour alone; here the mark says it too."""

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        strip = super().render_line(y)
        if number >= self.option_count or self.get_option_at_index(number).value in self.selected:
            return strip
        left, mark, *rest = strip
        return Strip([left, Segment(" " * len(mark.text), mark.style), *rest])


@dataclass(frozen=True)
class Asked:
    """One field of a form."""

    name: str
    label: str
    value: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False
    is_secret: bool = False
    placeholder: str = ""
    wrong: Callable[[str], str | None] | None = field(default=None, compare=False)
    """The sentence that says what is wrong with a value, or None."""
    lines: int = 0
    """A field of so many lines, for what is longer than one; 0 = one line."""
    help: str = ""
    """A sentence under the field."""
    many: tuple[str, ...] = ()
    """Any number of these, ticked with space; the value is what was ticked, in their order, a space between each."""


REASON = Asked("reason", "Reason (kept in the audit log)", is_required=True, placeholder="Why, in a few words")


class Form(_Dialog[dict[str, str] | None]):
    """Values by name, blanks at the ends removed; None when it was cancelled. Nothing wrong leaves it.

    `attempt` is done in a thread with the values before it closes; what it raises is said, and what was typed stays."""

    AUTO_FOCUS = ""  # `on_mount` chooses; before the first layout a focused field scrolls its label away
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "accept", "Done", show=False, id="dialog.accept", tooltip="The same as the button"),
    ]

    def __init__(
        self,
        title: str,
        asked: Sequence[Asked],
        *,
        yes: str,
        text: str = "",
        destructive: bool = False,
        attempt: Callable[[dict[str, str]], object] | None = None,
    ) -> None:
        super().__init__(classes="asking destructive" if destructive else "asking")
        self._words = (title, text, yes)
        self._asked = tuple(asked)
        self._destructive = destructive
        self._attempt = attempt

    def compose(self) -> ComposeResult:
        title, text, yes = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            if text:
                yield self.said(text)
            with VerticalScroll(id="fields", can_focus=False):
                for one in self._asked:
                    star = " *" if one.is_required else ""
                    yield Label(one.label + star, classes="label", markup=False)
                    yield self._field(one)
                    if one.help:
                        yield Label(one.help, classes="help", markup=False)
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(yes, id="yes", variant="error" if self._destructive else "primary")

    def _field(self, one: Asked) -> Input | Select[str] | TextArea | SelectionList[str]:
        name = f"ask-{one.name}"
        if one.many:
            ticked = one.value.split()
            ticks = Ticks(*((word, word, word in ticked) for word in one.many), compact=True, id=name)
            ticks.styles.height = len(one.many)
            return ticks
        if one.choices:
            value = one.value if one.value in one.choices else one.choices[0]
            options = [(clean(choice), choice) for choice in one.choices]
            return Select[str](options, value=value, allow_blank=False, compact=True, id=name)
        if one.lines:
            area = TextArea(one.value, placeholder=one.placeholder, compact=True, tab_behavior="focus", id=name)
            area.styles.height = one.lines
            return area
        return Input(one.value, placeholder=one.placeholder, password=one.is_secret, compact=True, id=name)

    def on_mount(self) -> None:
        if self._destructive or not self._asked:
            self.query_one("#cancel", Button).focus()
        else:
            self.query_one(f"#ask-{self._asked[0].name}").focus(scroll_visible=False)  # else its label is scrolled away

    def _given(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._asked:
            widget = self.query_one(f"#ask-{one.name}")
            if isinstance(widget, Input):
                found[one.name] = widget.value.strip()
            elif isinstance(widget, SelectionList):
                ticked = cast("SelectionList[str]", widget).selected
                found[one.name] = " ".join(word for word in one.many if word in ticked)
            elif isinstance(widget, TextArea):
                found[one.name] = widget.text.strip()
            else:
                found[one.name] = str(cast("Select[str]", widget).value)
        return found

    def _wrong(self, given: dict[str, str]) -> tuple[str, str] | None:
        for one in self._asked:
            value = given[one.name]
            if one.is_required and not value:
                return one.name, f"{one.label} is needed"
            if value and one.wrong is not None and (issue := one.wrong(value)):
                return one.name, issue
        return None

    def on_input_submitted(self) -> None:
        self.action_accept()

    def on_input_changed(self) -> None:
        self._say("")

    def on_text_area_changed(self) -> None:
        self._say("")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self.action_accept()
        else:
            self.dismiss(None)

    def _say(self, sentence: str) -> None:
        self.query_one("#wrong", Static).update(clean(sentence))

    def action_accept(self) -> None:
        given = self._given()
        if found := self._wrong(given):
            name, sentence = found
            self._say(sentence)
            self.query_one(f"#ask-{name}").focus()
        elif self._attempt is None:
            self.dismiss(given)
        else:
            self.run_worker(self._try(self._attempt, given), group="attempt", exclusive=True)

    async def _try(self, attempt: Callable[[dict[str, str]], object], given: dict[str, str]) -> None:
        yes = self.query_one("#yes", Button)
        yes.disabled = True
        try:
            await asyncio.to_thread(attempt, given)
        except Exception as error:  # whatever it raises is said; what was typed stays
            yes.disabled = False
            self._say(str(getattr(error, "message", "")) or f"{type(error).__name__}: {error}")
            return
        self.dismiss(given)

    def action_cancel(self) -> None:
        self.dismiss(None)


class Shown(_Dialog[None]):
    """A secret, this once, with copying."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,y", "copy", "Copy", id="dialog.copy", tooltip="Copy it, over SSH too (OSC 52)"),
    ]
    DEFAULT_CSS = """
    Shown #secret { width: 100%; height: auto; max-height: 8; padding: 0 1; background: $boost; text-style: bold; }
    """

    def __init__(self, title: str, text: str, secret: str) -> None:
        super().__init__()
        self._words = (title, text)
        self._secret = secret

    def compose(self) -> ComposeResult:
        title, text = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            yield self.said(text)
            yield Static(clean(self._secret), id="secret", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Copy", id="copy", variant="primary")
                yield Button("Close", id="cancel")

    def on_mount(self) -> None:
        self.query_one("#copy", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "copy":
            self.action_copy()
        else:
            self.dismiss(None)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._secret)
        self.notify("Copied, if your terminal allows it (OSC 52); else mark it with the mouse")

    def action_cancel(self) -> None:
        self.dismiss(None)


class Choose(_Dialog[str | None]):
    """One of these by its key; None when it was cancelled. Typing narrows the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "step(1)", "Next", show=False, id="dialog.down", tooltip="The next of the list", priority=True),
        Binding("up", "step(-1)", "Previous", show=False, id="dialog.up", tooltip="The one before", priority=True),
    ]
    DEFAULT_CSS = """
    Choose #list { height: auto; max-height: 50vh; margin: 1 0 0 0; }
    Choose.-low #said { max-height: 4; }
    """

    def __init__(self, title: str, options: Sequence[tuple[str, str]], *, text: str = "", chosen: str = "") -> None:
        """`options`: (key, words)."""
        super().__init__()
        self._words = (title, text)
        self._lines = [Line(key, (words,)) for key, words in options]
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        title, text = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            if text:
                yield self.said(text)
            yield Input(placeholder="Type to find", id="find", compact=True)
            yield Rows([Column("", 20, grows=True)], id="list", empty="Nothing like that.", has_head=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        rows = self.query_one("#list", Rows)
        rows.styles.height = max(min(len(self._lines), 16), 1)
        rows.show(self._lines)
        rows.move_to(next((n for n, one in enumerate(self._lines) if one.key == self._chosen), 0))
        self.query_one("#find").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        words = event.value.casefold().split()
        self.query_one("#list", Rows).show(
            [one for one in self._lines if all(word in str(one.cells[0]).casefold() for word in words)]
        )

    def on_input_submitted(self) -> None:
        self.query_one("#list", Rows).action_choose()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.dismiss(event.line.key)

    def action_step(self, by: int) -> None:
        self.query_one("#list", Rows).action_move(by)

    def on_button_pressed(self) -> None:
        self.dismiss(None)

    def action_cancel(self) -> None:
        self.dismiss(None)


class Cancelled(Exception):
    """Raised in a long job by `Going.tell` once the person had enough."""


class Going:
    """What a long job holds of its dialog; its thread may call all of it."""

    def __init__(self, paint: Callable[[], None]) -> None:
        self._paint = paint
        self._is_cancelled = threading.Event()
        self.done = 0.0
        self.total: float | None = None
        self.words = ""

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled.is_set()

    def cancel(self) -> None:
        self._is_cancelled.set()

    def tell(self, done: float, total: float | None = None, words: str = "") -> None:
        """So far it is. Raises Cancelled when it is to end; what was made by then is the job's to put away."""
        self.done, self.total, self.words = done, total, words
        self._paint()
        if self.is_cancelled:
            raise Cancelled


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """How a long job ended: exactly one of these says something."""

    value: T | None = None
    error: Exception | None = None
    is_cancelled: bool = False


class Progress(_Dialog[Outcome[T]], Generic[T]):
    """Does a long job in a thread under a bar, and closes with how it ended. Cancel asks the job to end; it does so at
    its next `tell`."""

    BINDINGS: ClassVar[list[BindingType]] = []
    DEFAULT_CSS = """
    Progress #bar { width: 100%; height: 1; margin-top: 1; }
    Progress #words { width: 100%; height: 1; color: $text-muted; }
    """

    def __init__(self, title: str, job: Callable[[Going], T], *, text: str = "") -> None:
        super().__init__()
        self._words = (title, text)
        self._job = job
        self._going = Going(self._paint_soon)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False

    def compose(self) -> ComposeResult:
        title, text = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            if text:
                yield self.said(text)
            yield Static("", id="bar", markup=False)
            yield Static("", id="words", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.query_one("#cancel", Button).focus()
        self._paint()
        self.run_worker(self._work(), group="progress")

    async def _work(self) -> None:
        try:
            outcome = Outcome(value=await asyncio.to_thread(self._job, self._going))
        except Cancelled:
            outcome = Outcome[T](is_cancelled=True)
        except Exception as error:  # who opened it says it
            outcome = Outcome[T](error=error)
        self.dismiss(outcome)

    def _paint_soon(self) -> None:
        if self._loop is not None and not self._is_due:  # a burst is painted once
            self._is_due = True
            self._loop.call_soon_threadsafe(self._paint)

    def _paint(self) -> None:
        self._is_due = False
        if not self.is_mounted:
            return
        going = self._going
        bar = self.query_one("#bar", Static)
        bar.update(gauge(going.done, going.total, max(bar.size.width, 20)))
        words = "Ending as soon as it can…" if going.is_cancelled else going.words
        self.query_one("#words", Static).update(clean(words))

    def on_resize(self) -> None:
        self._paint()

    def on_button_pressed(self) -> None:
        self.action_cancel()

    def action_cancel(self) -> None:
        self._going.cancel()
        self.query_one("#cancel", Button).disabled = True
        self._paint()


def gauge(done: float, total: float | None, width: int) -> str:
    """`━━━━━╌╌╌╌╌  43 %`; without a total only that it goes on."""
    if not total:
        return "under way…" if not done else f"{done:,.0f} so far"
    part = min(max(done / total, 0.0), 1.0)
    room = width - 7
    full = round(part * room)
    return f"{'━' * full}{'╌' * (room - full)}  {int(part * 100):3d} %"


class Told(_Dialog[None]):
    """Something to read, of any length, and to close again."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, title: str, text: str | Text, *, is_bad: bool = False) -> None:
        super().__init__(classes="destructive" if is_bad else "")
        self._words = (title, text)

    def compose(self) -> ComposeResult:
        title, text = self._words
        with Vertical(id="box"):
            yield Label(clean(title), id="title", markup=False)
            if isinstance(text, str):
                yield self.said(text)
            else:
                yield VerticalScroll(Static(text, id="text", markup=False), id="said", can_focus=False)
            with Horizontal(id="buttons"):
                yield Button("Close", id="cancel", variant="primary")

    def on_mount(self) -> None:
        self.query_one("#cancel", Button).focus()

    def on_button_pressed(self) -> None:
        self.dismiss(None)

    def action_cancel(self) -> None:
        self.dismiss(None)
