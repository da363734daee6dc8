"""Questions that stop the world, typed by their answer; None or False is "no". Cancel is where the focus begins."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Button, Input, Label, Select, Static


class _Dialog(ModalScreen[ScreenResultType]):
    """A box in the middle. Escape is cancel."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", id="dialog.cancel"),
        Binding("left", "app.focus_previous", "Previous", show=False, id="dialog.previous"),
        Binding("right", "app.focus_next", "Next", show=False, id="dialog.next"),
    ]
    DEFAULT_CSS = """
    _Dialog { align: center middle; }
    _Dialog > #box { width: 72; max-width: 95%; height: auto; max-height: 95%; padding: 1 2; border: round $primary;
        background: $surface; }
    _Dialog.destructive > #box { border: round $error; }
    _Dialog #title { text-style: bold; width: 100%; }
    _Dialog #text { width: 100%; margin: 1 0; }
    _Dialog #fields { height: auto; max-height: 14; }
    _Dialog .label { color: $text-muted; }
    _Dialog #wrong { color: $text-error; width: 100%; height: auto; }
    _Dialog #buttons { height: auto; align-horizontal: right; margin-top: 1; }
    _Dialog Button { margin-left: 2; }
    """


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
            yield Label(title, id="title", markup=False)
            yield Static(text, id="text", markup=False)
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
        self.query_one("#yes", Button).disabled = event.value != self._word

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_cancel(self) -> None:
        self.dismiss(False)


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


REASON = Asked("reason", "Reason (kept in the audit log)", is_required=True, placeholder="Why, in a few words")


class Form(_Dialog[dict[str, str] | None]):
    """Values by name, blanks at the ends removed; None when it was cancelled. Nothing wrong leaves it."""

    def __init__(
        self, title: str, asked: Sequence[Asked], *, yes: str, text: str = "", destructive: bool = False
    ) -> None:
        super().__init__(classes="destructive" if destructive else "")
        self._words = (title, text, yes)
        self._asked = tuple(asked)
        self._destructive = destructive

    def compose(self) -> ComposeResult:
        title, text, yes = self._words
        with Vertical(id="box"):
            yield Label(title, id="title", markup=False)
            if text:
                yield Static(text, id="text", markup=False)
            with VerticalScroll(id="fields", can_focus=False):
                for one in self._asked:
                    star = " *" if one.is_required else ""
                    yield Label(one.label + star, classes="label", markup=False)
                    if one.choices:
                        yield Select[str](
                            [(choice, choice) for choice in one.choices],
                            value=one.value or one.choices[0],
                            allow_blank=False,
                            compact=True,
                            id=f"ask-{one.name}",
                        )
                    else:
                        yield Input(
                            one.value,
                            placeholder=one.placeholder,
                            password=one.is_secret,
                            compact=True,
                            id=f"ask-{one.name}",
                        )
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button(yes, id="yes", variant="error" if self._destructive else "primary")

    def on_mount(self) -> None:
        if self._destructive or not self._asked:
            self.query_one("#cancel", Button).focus()
        else:
            self.query_one(f"#ask-{self._asked[0].name}").focus()

    def _given(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._asked:
            widget = self.query_one(f"#ask-{one.name}")
            found[one.name] = widget.value.strip() if isinstance(widget, Input) else str(widget.value)  # type: ignore[union-attr]
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
        self._accept()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self._accept()
        else:
            self.dismiss(None)

    def _accept(self) -> None:
        given = self._given()
        if found := self._wrong(given):
            name, sentence = found
            self.query_one("#wrong", Static).update(sentence)
            self.query_one(f"#ask-{name}").focus()
            return
        self.dismiss(given)

    def action_cancel(self) -> None:
        self.dismiss(None)


class Shown(_Dialog[None]):
    """A secret, this once, with copying."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy", id="dialog.copy", tooltip="Copy it, over SSH too (OSC 52)"),
    ]

    def __init__(self, title: str, text: str, secret: str) -> None:
        super().__init__()
        self._words = (title, text)
        self._secret = secret

    def compose(self) -> ComposeResult:
        title, text = self._words
        with Vertical(id="box"):
            yield Label(title, id="title", markup=False)
            yield Static(text, id="text", markup=False)
            yield Static(self._secret, id="secret", markup=False)
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
        self.notify("Copied")

    def action_cancel(self) -> None:
        self.dismiss(None)
