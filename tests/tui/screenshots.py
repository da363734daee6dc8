"""`python -m tests.tui.screenshots`: the pictures in README, drawn anew in tui/screenshots/ from a house made up here.

They are SVG as Textual exports it, less the fonts that it would load from elsewhere.
"""

import asyncio
import re
import shutil
import sys
import tempfile
from pathlib import Path

from appliance.house import House
from appliance.settings import Log, Settings
from tests import made
from tests.cast import enrol
from tests.tui.conftest import NOON, settle
from tui.app import CustomhouseApp
from tui.backend.desk import Desk

FOLDER = Path(__file__).resolve().parent.parent.parent / "tui" / "screenshots"
SHOTS: tuple[tuple[str, str, tuple[int, int], tuple[str, ...]], ...] = (
    ("overview", "overview", (120, 34), ()),
    ("jobs", "jobs", (120, 34), ()),
    ("categories", "categories", (120, 34), ("t",)),
    ("help", "keys", (100, 30), ("question_mark",)),
)
"""File, screen, size, keys pressed before."""

_FONTS = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(home=Path(scratch) / "home", log=Log(level="critical"))
        house = House(settings)
        try:
            _fill(house)
        finally:
            house.close()
        FOLDER.mkdir(exist_ok=True)
        desk = Desk(settings, now=lambda: NOON)
        try:
            for name, place, size, press in SHOTS:
                svg = asyncio.run(_shoot(desk, place, size, press))
                (FOLDER / f"{name}.svg").write_text(_FONTS.sub("", svg))
                print(FOLDER / f"{name}.svg", file=sys.stderr)
        finally:
            desk.close()


def _fill(house: House) -> None:
    people = [enrol(house, org, name) for org, name in (("Harbour Forum", "website"), ("Lighthouse Pictures", "app"))]
    for number, one in enumerate(people):
        jobs = made.random_jobs(one.org_id, 400, NOON - made.HOUR, NOON - 2_000, seed=number)
        made.insert(house, jobs)


async def _shoot(desk: Desk, place: str, size: tuple[int, int], press: tuple[str, ...]) -> str:
    app = CustomhouseApp(desk, place)
    app.animation_level = "none"
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        for key in press:
            await pilot.press(key)
            await settle(pilot)
        return app.export_screenshot(title=f"customhouse tui · {place}")


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    main()
