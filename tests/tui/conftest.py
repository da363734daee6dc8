"""A desk over a house of this test's own, and pictures of the screens held as text.

A picture is tests/tui/shots/NAME.txt: the letters as they stand, then each line's styles. CUSTOMHOUSE_TEST_GOLDEN=1
writes them anew; read the diff. When one differs, an SVG of what was seen is left beside the test's other files.
"""

import asyncio
import difflib
import io
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Input, TextArea

from appliance.house import House
from appliance.settings import Settings
from tui.app import CustomhouseApp
from tui.backend.desk import Desk

NOON = 1_779_192_000_000
"""2026-05-19 12:00:00 UTC: what every desk here takes for now."""
SHOTS = Path(__file__).parent / "shots"
SMALL, WIDE = (80, 24), (160, 50)

Doing = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture
def desk(house: House, settings: Settings) -> Iterator[Desk]:
    """Over the same files as `house`, at noon."""
    desk = Desk(settings, now=lambda: NOON)
    yield desk
    desk.close()


async def settle(pilot: Pilot[None]) -> None:
    """Until nothing that a screen asked for is under way, but what waits for a dialog's answer."""
    for _ in range(3):
        await pilot.pause()
        while _under_way(pilot):
            await asyncio.sleep(0.005)
    await pilot.pause()


def _under_way(pilot: Pilot[None]) -> bool:
    going = [one for one in pilot.app.workers if not one.is_finished]
    top = pilot.app.screen
    if isinstance(top, ModalScreen):  # whoever opened it waits there; what loads beside it does not
        going = [one for one in going if one.group in ("load", "rows") or one.node is top or top in one.node.ancestors]
    return bool(going)


async def until(pilot: Pilot[None], holds: Callable[[], bool], patience: float = 20.0) -> None:
    """Until that holds. For what another thread says: a pilot's pauses do not wait for it."""
    clock = asyncio.get_running_loop().time
    end = clock() + patience
    while not holds():
        assert clock() < end, f"did not come to hold within {patience:g} s"
        await asyncio.sleep(0.01)
        await pilot.pause()


def drive(
    desk: Desk, place: str, doing: Doing, *, size: tuple[int, int] = SMALL, theme: str = "textual-dark"
) -> CustomhouseApp:
    """Open that screen, have `doing` done with it, and close; nothing moves by itself."""
    app = CustomhouseApp(desk, place)
    app.animation_level = "none"
    app.theme = theme

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await doing(pilot)

    asyncio.run(go())
    return app


class Shoot(Protocol):
    def __call__(
        self,
        desk: Desk,
        place: str,
        name: str,
        *,
        press: Sequence[str] = (),
        doing: Doing | None = None,
        size: tuple[int, int] = SMALL,
        theme: str = "textual-dark",
    ) -> None: ...


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    """Hold the screen against its picture, after these keys."""

    def take(
        desk: Desk,
        place: str,
        name: str,
        *,
        press: Sequence[str] = (),
        doing: Doing | None = None,
        size: tuple[int, int] = SMALL,
        theme: str = "textual-dark",
    ) -> None:
        seen: list[str] = []

        async def look(pilot: Pilot[None]) -> None:
            for key in press:
                await pilot.press(key)
                await settle(pilot)
            if doing is not None:
                await doing(pilot)
                await settle(pilot)
            _hold_still(pilot)
            seen.append(await _settled(pilot, size, SHOTS / f"{name}.txt"))
            (tmp_path / f"{name}.svg").write_text(pilot.app.export_screenshot())

        drive(desk, place, look, size=size, theme=theme)
        _compare(SHOTS / f"{name}.txt", seen[0], tmp_path / f"{name}.svg")

    return take


async def _settled(pilot: Pilot[None], size: tuple[int, int], held: Path, patience: float = 5.0) -> str:
    """The picture once it stands: the held one as soon as it is seen, else what is left when nothing moves any more.

    A layout goes on after the last message: scrolling to what has the focus is asked for, then done by a later refresh,
    and on a loaded machine that is after every pause that a pilot knows of.
    """
    wanted = held.read_text() if held.exists() and not _anew() else None
    seen, since = "", 0.0
    clock = asyncio.get_running_loop().time
    end = clock() + patience
    while clock() < end:
        await pilot.pause()
        now = picture(pilot, size)
        if now == wanted:
            return now
        if now != seen:
            seen, since = now, clock()
        elif wanted is None and clock() - since > 0.3:
            break
        await asyncio.sleep(0.02)
    return seen


def _anew() -> bool:
    return os.environ.get("CUSTOMHOUSE_TEST_GOLDEN") == "1"


def _hold_still(pilot: Pilot[None]) -> None:
    for one in pilot.app.screen.query(Input):
        one.cursor_blink = False
    for one in pilot.app.screen.query(TextArea):
        one.cursor_blink = False


def picture(pilot: Pilot[None], size: tuple[int, int]) -> str:
    """The screen as text: its lines, then which style each run of letters has."""
    console = Console(
        file=io.StringIO(),
        width=size[0],
        height=size[1],
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    update: Any = pilot.app.screen._compositor.render_update(full=True)
    segments = [one for one in console.render(update) if not one.control]
    lines = [list(line) for line in Segment.split_lines(segments)][: size[1]]
    names: dict[str, str] = {}
    words = ["".join(one.text for one in line).rstrip() for line in lines]
    runs = [_runs(line, names) for line in lines]
    legend = [f"{name} {said}" for said, name in names.items()]
    return "\n".join([*words, "", "-- styles", *legend, "-- runs", *runs, ""])


def _runs(line: list[Segment], names: dict[str, str]) -> str:
    found: list[tuple[str, int]] = []
    for one in line:
        said = _said(one.style or Style())
        name = names.setdefault(said, _letter(len(names)))
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1] + one.cell_length)
        else:
            found.append((name, one.cell_length))
    return " ".join(f"{name}{length}" for name, length in found)


def _said(style: Style) -> str:
    return str(style.without_color + Style.from_color(style.color, style.bgcolor)) if style else "none"


def _letter(number: int) -> str:
    return chr(97 + number) if number < 26 else f"{chr(97 + number // 26 - 1)}{chr(97 + number % 26)}"


def _compare(path: Path, seen: str, svg: Path) -> None:
    if _anew():
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen)
        return
    assert path.exists(), f"no picture yet: CUSTOMHOUSE_TEST_GOLDEN=1 makes {path.name}; this was seen: {svg}"
    held = path.read_text()
    if held != seen:
        diff = "\n".join(difflib.unified_diff(held.splitlines(), seen.splitlines(), "held", "seen", lineterm=""))
        raise AssertionError(f"{path.name} differs; seen: {svg}\n{diff}")
