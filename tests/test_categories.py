"""config/categories.toml: read, checked, read again."""

import os
from pathlib import Path

import pytest

from appliance import categories
from appliance.errors import Misconfigured
from appliance.settings import Settings


@pytest.fixture
def copy(tmp_path: Path, settings: Settings) -> Path:
    path = tmp_path / "categories.toml"
    path.write_text(settings.categories_file.read_text())
    return path


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def test_the_shipped_file_has_every_check(copy: Path) -> None:
    assert set(categories.CHECKS) <= set(categories.load(copy))


def test_a_changed_threshold_counts_without_a_restart(copy: Path) -> None:
    live = categories.Live(copy)
    before = live.current()["nsfw"].sources[0].threshold
    edit(copy, f"threshold = {before}", "threshold = 0.123")
    assert live.current()["nsfw"].sources[0].threshold == 0.123


def test_a_file_that_turned_bad_is_said_and_the_former_stands(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = categories.Live(copy)
    edit(copy, "[nsfw]", "[nsfw")
    assert "nsfw" in live.current()
    assert "not read again" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('step = "nsfw"', 'step = "nfsw"', "must be one of nsfw, vlm, text"),
        ("threshold = 0.5", "threshold = 50", "not between 0 and 1"),
        ("[underage]", "[under]", "underage"),
        ('label = "NSFW"', 'lable = "NSFW"', "lable"),
    ],
)
def test_a_mistake_is_named_with_its_place(copy: Path, old: str, new: str, says: str) -> None:
    edit(copy, old, new)
    with pytest.raises(Misconfigured, match=says):
        categories.load(copy)
