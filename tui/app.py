"""The application: which screen is seen, the palette, the keys. It knows no screen but through tui/places.py."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Iterable
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui import places
from tui.backend.desk import Desk


class CustomhouseApp(App[None]):
    """The admin's house. It is handed an open Desk, and closes nothing."""

    TITLE = "Customhouse"
    CSS_PATH = "styles.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "go", "Go to", id="app.go", tooltip="Go to a screen: g, then its letter"),
        Binding("colon", "command_palette", "Commands", key_display=":", id="app.palette", tooltip="Find a command"),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help", tooltip="What the keys do here"),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave; nothing stops"),
    ]

    def __init__(self, desk: Desk, start: str = "overview") -> None:
        super().__init__()
        self.desk = desk
        self._start = start

    def on_mount(self) -> None:
        self.go(self._start)

    def go(self, name: str) -> None:
        """Show that screen instead of this one."""
        self.switch_screen(places.find(name)()) if len(self.screen_stack) > 1 else self.push_screen(places.find(name)())

    def action_place(self, name: str) -> None:
        self.go(name)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for one in places.PLACES:
            yield SystemCommand(one.title, one.tells, lambda name=one.name: self.go(name))
        yield from super().get_system_commands(screen)
