"""`;`: a letter over everything that takes the focus; press it to be there. Nothing on the way is touched."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Label

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


def targets(screen: Screen[object]) -> list[tuple[Widget, Region]]:
    """What can be jumped to, in the order of the focus: seen, at least in part."""
    seen = [(one, one.region.intersection(screen.region)) for one in screen.focus_chain]
    return [(one, region) for one, region in seen if region.area][: len(LETTERS)]


class Jump(ModalScreen[int | None]):
    """Answers the number of the target, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stay", "Stay here", id="jump.stay"),
    ]
    DEFAULT_CSS = """
    Jump { background: $background 20%; }
    Jump > Label { position: absolute; width: 3; height: 1; text-align: center; text-style: bold reverse; }
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        super().__init__()
        self._regions = regions

    def compose(self) -> ComposeResult:
        for letter, region in zip(LETTERS, self._regions, strict=False):
            label = Label(letter)
            label.styles.offset = region.offset
            yield label

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character in LETTERS[: len(self._regions)]:
            event.stop()
            self.dismiss(LETTERS.index(event.character))

    def on_click(self) -> None:
        self.dismiss(None)

    def action_stay(self) -> None:
        self.dismiss(None)
