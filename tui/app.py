"""The application: which screen is seen, the palette, the keys, the looks. It knows no screen but through
tui/places.py."""

# pyright: reportUnknownMemberType=false
# Textual types `app` as an App of nobody knows what.

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.actions import SkipAction
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.filter import LineFilter, NoColor
from textual.screen import Screen
from textual.widgets import Input, TextArea

from tui import help, keymap, places, preferences, themes
from tui.backend.desk import Desk
from tui.goto import GoTo
from tui.jump import Jump, targets
from tui.palette import Actions
from tui.place import Place
from tui.preferences import Preferences

Alarms = Callable[[Desk], Sequence[str]]
"""What every screen must say, a sentence each. Asked in a thread."""

_ALARMS_S = 5.0


class CustomhouseApp(App[None]):
    """The admin's house. It is handed an open Desk, and closes nothing."""

    TITLE = "Customhouse"
    CSS_PATH = "styles.tcss"
    COMMANDS = App.COMMANDS | {Actions}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "go", "Go to", id="app.go", priority=True, tooltip="Go to a screen: g, then its letter"),
        Binding("colon", "command_palette", "Commands", key_display=":", id="app.palette", tooltip="Find a command"),
        Binding(
            "ctrl+p",
            "command_palette",
            "Commands",
            show=False,
            priority=True,
            id="app.palette_anywhere",
            tooltip="Find a command, in a field too",
        ),
        Binding("question_mark", "help", "Help", key_display="?", id="app.help", tooltip="What the keys do here"),
        Binding(
            "semicolon",
            "jump",
            "Jump",
            key_display=";",
            show=False,
            id="app.jump",
            tooltip="A letter over everything that takes the focus: press it to be there",
        ),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave; nothing stops"),
    ]

    def __init__(
        self,
        desk: Desk,
        start: str = "overview",
        *,
        liked: Preferences | None = None,
        remembered: Path | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        """`remembered`: the file that a theme which is chosen is written to."""
        super().__init__()
        self.desk = desk
        self.alarms: Sequence[str] = ()
        """What is wrong just now."""
        self.is_colourless = False
        self._start = start
        self._liked = liked or Preferences()
        self._remembered = remembered
        self._ask_alarms = alarms
        self._clashes: set[str] = set()
        self.wear(self._liked.theme)
        if self._liked.motion == "reduced":
            self.animation_level = "none"

    def on_mount(self) -> None:
        if self._liked.keys:
            self.set_keymap(dict(self._liked.keys))
            self._check_keys()
        for sentence in self._liked.wrong:
            self.notify(sentence, title="Your settings", severity="warning", timeout=15, markup=False)
        self.go(self._start)
        self.set_timer(0.5, _spare)
        if self._ask_alarms is not None:
            self.watch_alarms()
            self.set_interval(_ALARMS_S, self.watch_alarms)

    # --- where one is -------------------------------------------------------------------------------------------------

    def go(self, name: str) -> None:
        """Show that screen instead of this one."""
        if len(self.screen_stack) > 1:
            self.switch_screen(places.find(name)())
        else:
            self.push_screen(places.find(name)())

    def action_place(self, name: str) -> None:
        self.go(name)

    def action_go(self) -> None:
        """`g` goes before the widgets' keys, so that the letter after it, sent in the same breath, finds the places
        open; but where letters are typed it is one."""
        if not isinstance(self.screen, Place) or isinstance(self.focused, (Input, TextArea)):
            raise SkipAction
        here = self.screen.NAME
        self.push_screen(GoTo(here), lambda name: self.go(name) if name and name != here else None)

    @work
    async def action_jump(self) -> None:
        found = targets(self.screen)
        if not found:
            return
        chosen = await self.push_screen_wait(Jump([region for _, region in found]))
        if chosen is not None:
            found[chosen][0].focus()

    def action_help(self) -> None:
        here = places.BY_NAME.get(self.screen.NAME) if isinstance(self.screen, Place) else None
        title = here.title if here else "this dialog"
        self.push_screen(help.Help(title, here.tells if here else "", help.of(self.screen, self, title)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for one in places.ALL:
            yield SystemCommand(f"Go to {one.title}", f"{one.tells} (g {one.key})", partial(self.go, one.name))
        for look in themes.LOOKS:
            yield SystemCommand(f"Theme: {look.name}", look.tells, partial(self.choose_theme, look.name))
        still = self.animation_level == "none"
        yield SystemCommand(
            "Motion: full" if still else "Motion: reduced",
            "Let things slide and fade." if still else "Nothing slides or fades, until you leave.",
            partial(self.set_motion, not still),
        )

    # --- looks --------------------------------------------------------------------------------------------------------

    def wear(self, name: str) -> None:
        """This look, by its name in tui/themes.py."""
        look = themes.BY_NAME[name]
        self.no_color = self.is_colourless = look.is_colourless
        self.theme = look.theme
        if self.is_running:
            self.refresh_css(animate=False)
            self.screen.refresh(layout=True)

    def choose_theme(self, name: str) -> None:
        """Wear it, and remember it."""
        self.wear(name)
        if self._remembered is None:
            return
        try:
            preferences.remember_theme(self._remembered, name)
        except OSError as error:
            self.notify(f"It is not remembered: {error}", severity="warning", markup=False)

    def set_motion(self, is_reduced: bool) -> None:
        self.animation_level = "none" if is_reduced else "full"

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, NoColor()] if self.is_colourless else filters

    # --- keys ---------------------------------------------------------------------------------------------------------

    @work(group="keys")
    async def _check_keys(self) -> None:
        """After the first paint: it imports every screen."""
        for sentence in await asyncio.to_thread(keymap.wrong, self._liked.keys):
            self.notify(sentence, title="Your keys", severity="warning", timeout=15, markup=False)

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        for one in clashed_bindings:
            if one.id and one.id not in self._clashes:
                self._clashes.add(one.id)
                sentence = f"{one.id} has no key any more: another one took {one.key}"
                self.notify(sentence, title="Your keys", severity="warning", timeout=15, markup=False)

    # --- what every screen must say -----------------------------------------------------------------------------------

    @work(group="alarms", exclusive=True)
    async def watch_alarms(self) -> None:
        """Ask what is wrong, and have it said. A question that fails is itself what is wrong."""
        if self._ask_alarms is None:
            return
        try:
            found = tuple(await asyncio.to_thread(self._ask_alarms, self.desk))
        except Exception as error:  # the TUI's worker: said, and the traceback in the log
            logging.getLogger(__name__).exception("alarms not asked")
            found = (f"How this box does cannot be asked: {error}",)
        if found != self.alarms:
            self.alarms = found
            for screen in self.screen_stack:
                if isinstance(screen, Place):
                    screen.say_alarms()


def _spare() -> None:
    """Have the collector leave alone what the start made, and look for cycles less often: its pauses were what a key
    waited for longest (worst of 60: 64 to 110 ms with it, 18 to 50 without)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
