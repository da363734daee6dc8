"""`?`: what the keys do here. It is made from the bindings of what has the focus, of the screen and of the application,
so it cannot tell anything else than what they do."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from tui.widgets.rows import Rows


@dataclass(frozen=True)
class Key:
    keys: str
    """As they are read: `^r F5`."""
    label: str
    tells: str


@dataclass(frozen=True)
class Section:
    title: str
    keys: tuple[Key, ...]


def of(screen: Screen[object], app: App[None], title: str) -> list[Section]:
    """What can be pressed on that screen now: the screen's own first. Bindings without an id are the toolkit's."""
    found: dict[str, dict[str, tuple[Binding, list[str]]]] = {title: {}}
    for key, active in screen.active_bindings.items():
        if not active.binding.description or not active.binding.id or not active.enabled:
            continue
        where = _where(active.node, screen, app, title)
        _, keys = found.setdefault(where, {}).setdefault(active.binding.action, (active.binding, []))
        keys.append(app.get_key_display(active.binding.with_key(key)) if keys else app.get_key_display(active.binding))
    return [
        Section(where, tuple(Key(" ".join(keys), one.description, one.tooltip) for one, keys in actions.values()))
        for where, actions in found.items()
        if actions
    ]


def _where(node: object, screen: Screen[object], app: App[None], title: str) -> str:
    if node is screen:
        return title
    if node is app:
        return "Everywhere"
    match node:
        case Input() | TextArea():
            return "While typing"
        case Rows():
            return "In the table"
        case Widget() if node.border_title:
            return str(node.border_title)
        case _:
            return "Here"


class Help(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "leave", "Close", id="help.close"),
    ]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > VerticalScroll { width: 92; max-width: 95%; height: auto; max-height: 95%; padding: 0 1;
        border: round $primary; background: $surface; scrollbar-size: 1 1; }
    Help Static { height: auto; }
    """

    def __init__(self, title: str, tells: str, sections: Sequence[Section]) -> None:
        super().__init__()
        self._title = title
        self._tells = tells
        self._sections = sections

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help") as box:
            box.border_title = f"Help: {self._title}"
            box.border_subtitle = "escape closes, arrows scroll"
            yield Static(self._drawn(), markup=False)

    def _drawn(self) -> Group:
        drawn: list[Text | Table] = [Text(self._tells, style="italic")]
        for section in self._sections:
            table = Table.grid(padding=(0, 2))
            table.add_column(style="bold", no_wrap=True, min_width=10)
            table.add_column(no_wrap=True, min_width=14)
            table.add_column(style="dim", overflow="fold")
            for key in section.keys:
                table.add_row(Text(key.keys), Text(key.label), Text(key.tells))
            drawn += [Text(f"\n{section.title}", style="bold underline"), table]
        return Group(*drawn)

    def on_mount(self) -> None:
        self.query_one("#help").focus()

    def action_leave(self) -> None:
        self.dismiss(None)
