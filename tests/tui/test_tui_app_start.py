"""The first start: a home that is not there is made, what stands in the way is a sentence, nothing heavy is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from appliance.errors import Misconfigured
from appliance.settings import Settings
from tests.tui.conftest import drive, settle
from tui import command
from tui.backend import health
from tui.backend.desk import Access, Desk

ROOT = Path(__file__).resolve().parents[2]


def test_a_home_that_is_not_there_is_made_and_the_overview_opens(settings: Settings) -> None:
    assert not settings.home.exists()
    desk = Desk(settings)

    async def doing(pilot: Pilot[None]) -> None:
        await settle(pilot)
        assert "Overview" in str(pilot.app.screen.query_one("#top", Static).content)

    drive(desk, "overview", doing)
    desk.close()
    assert settings.database.exists()


def test_with_nothing_running_every_screen_says_what_to_do(settings: Settings) -> None:
    desk = Desk(settings)
    said = health.alarms(desk)
    desk.close()
    assert any("customhouse up" in one for one in said), said


def test_looking_where_there_is_nothing_is_a_sentence_and_makes_nothing(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="there is no database yet; start Customhouse first: customhouse up"):
        Desk(settings, Access("operator:nell", False, "You may look"))
    assert not settings.home.exists()


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(Misconfigured, match="set CUSTOMHOUSE_HOME to a folder you own"):
        command._run("overview", False, None)


@pytest.mark.parametrize("screen", ["overview", "jobs", "keys"])
def test_the_start_loads_no_library_of_models_of_payments_or_of_the_network(screen: str) -> None:
    """Each costs 60 to 300 ms before the first letter is seen."""
    heavy = (
        "numpy",
        "cv2",
        "onnx",
        "onnxruntime",
        "llama_cpp",
        "stripe",
        "httpx",
        "sqlite_utils",
        "litestar",
        "aiohttp",
    )
    script = (
        "import sys, tui.command, tui.app, tui.backend.desk, tui.screens." + screen + "\n"
        f"print(*[one for one in {heavy!r} if one in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
