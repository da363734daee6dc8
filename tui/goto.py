"""`g`, then a letter: the places, and where each letter leads."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import places


class GoTo(ModalScreen[str | None]):
    """Answers a place's name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stay", "Stay here", id="goto.stay"),
    ]
    DEFAULT_CSS = """
    GoTo { align: left bottom; background: $background 0%; }
    GoTo > Static { width: 100%; max-width: 80; height: auto; padding: 0 1; border: round $primary;
        background: $surface; }
    """

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here

    def compose(self) -> ComposeResult:
        box = Static(self._lines(), id="places")
        box.border_title = "Go to"
        box.border_subtitle = "a letter, or escape"
        yield box

    def _lines(self) -> Text:
        """Three columns, read downwards."""
        text = Text()
        rows = -(-len(places.ALL) // 3)
        for row in range(rows):
            for number in range(row, len(places.ALL), rows):
                one = places.ALL[number]
                text.append(f" {one.key} ", style="bold reverse")
                text.append(f" {one.title:<20}", style="dim" if one.name == self._here else "")
                text.append(" ")
            text.append("\n" if row < rows - 1 else "")
        return text

    def on_key(self, event: events.Key) -> None:
        for one in places.ALL:
            if event.character == one.key:
                event.stop()
                self.dismiss(one.name)

    def on_click(self, event: events.Click) -> None:
        box = self.query_one("#places", Static)
        if not box.region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)
            return
        x, y = event.screen_x - box.content_region.x, event.screen_y - box.content_region.y
        rows = -(-len(places.ALL) // 3)
        number = (x // 25) * rows + y
        if 0 <= y < rows and 0 <= number < len(places.ALL):
            self.dismiss(places.ALL[number].name)

    def action_stay(self) -> None:
        self.dismiss(None)
