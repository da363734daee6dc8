"""The screen of models: what it shows of real manifests and files, each of its deeds, and a real model process."""

import asyncio
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit
from appliance.demo import MEDIA
from appliance.errors import Conflict, InferenceDown
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.settings import Settings
from tests import tinyonnx
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle, until
from tui.backend import models
from tui.backend.desk import Access, Desk
from tui.backend.works import Works
from tui.screens.working import Working
from tui.widgets.dialogs import Confirm, Form, Told
from tui.widgets.rows import Rows

SHELF = {
    "opennsfw": ("image-classification", "BSD-2-Clause", "starter", 23_600_000),
    "image-safety-s": ("image-classification", "MIT", "starter", 23_700_000),
    "nsfwjs": ("image-classification", "MIT", "starter", 10_600_000),
    "faces-age": ("image-classification", "CC0-1.0", "starter", 11_400_000),
    "text-heads": ("image-classification", "Apache-2.0", "starter", 23_100_000),
    "qwen3-vl-2b": ("image-classification", "Apache-2.0", "recommended", 1_560_000_000),
    "llama-guard-3-8b": ("image-classification", "LicenseRef-Llama-3.1-Community", "recommended", 4_920_000_000),
}
HERE = ("opennsfw", "image-safety-s", "nsfwjs", "faces-age", "text-heads")
_INPUT = '[input]\nwidth = 8\nheight = 8\n[output]\nlabels = ["nsfw", "sfw"]\n'


def describe(folder: Path, name: str, content: bytes = b"weights of a toy", size: int = 0) -> None:
    """A manifest of the real shape whose one file lies beside it."""
    task, licence, of_set, known = SHELF.get(name, ("image-classification", "MIT", "optional", len(content)))
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "weights.bin").write_bytes(content)
    (folder / name / "LICENSE").write_text(f"The terms of {name}, in full.\n")
    (folder / name / "manifest.toml").write_text(
        f'name = "{name}"\ntitle = "A model called {name}"\ntask = "{task}"\nruntime = "onnx"\nlicence = "{licence}"\n'
        f'licence_note = "Made for a test."\nset = "{of_set}"\nnotes = "A note on {name}."\n{_INPUT}'
        f'[[files]]\nname = "{name}.onnx"\nsource = "file:weights.bin"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nsize_bytes = {size or known}\n'
        f'[[evaluation]]\ndata = "20 photographs"\nmetric = "largest score"\nvalue = 0.05\n'
    )


@pytest.fixture
def settings(tmp_path: Path, settings: Settings) -> Settings:
    """A shelf of its own: no picture changes because a shipped manifest did."""
    for name in SHELF:
        describe(tmp_path / "models", name)
    return msgspec.structs.replace(settings, models_dir=tmp_path / "models")


@pytest.fixture
def desk(house: House, settings: Settings) -> Iterator[Desk]:
    desk = Desk(settings, now=lambda: NOON)
    yield desk
    models.works(desk).close()
    desk.close()


class Process(Models):
    """A model process that answers from a table. What is asked of it changes the table."""

    def __init__(self, desk: Desk, *ready: str) -> None:
        super().__init__(desk.settings.inference_socket, 1.0)
        self.ready = set(ready)
        self.weights = desk.settings.weights_dir
        self.falls_short: set[str] = set()
        desk.models.close()
        desk.models = self

    def status(self) -> Status:
        degraded = [f"{name}: cuda asked for, not used, because there is no driver" for name in self.falls_short]
        return Status([self._status(name) for name in SHELF], "cpu", degraded, 412_000_000, 4242, 7_380.0)

    def _status(self, name: str) -> ModelStatus:
        if name not in self.ready:
            is_here = (self.weights / name / f"{name}.onnx").exists()
            return ModelStatus(name, SHELF[name][0], ModelState.UNLOADED if is_here else ModelState.ABSENT)
        wanted = "cuda:0" if name in self.falls_short else "cpu"
        return ModelStatus(
            name,
            SHELF[name][0],
            ModelState.READY,
            "cpu",
            wanted,
            "864bb37bf863",
            SHELF[name][3] * 3,
            0,
            12_040,
            {"1": 310, "4": 2_932},
            18.2,
            61.0,
        )

    def load(self, name: str) -> ModelStatus:
        self.ready.add(name)
        return self._status(name)

    def unload(self, name: str) -> ModelStatus:
        self.ready.discard(name)
        return self._status(name)

    def reload(self, name: str) -> ModelStatus:
        return self._status(name)


def stock(desk: Desk, *names: str) -> None:
    """These models' weights are here."""
    for name in names or HERE:
        target = desk.settings.weights_dir / name / f"{name}.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"weights of a toy")


@pytest.fixture
def full(desk: Desk) -> Desk:
    stock(desk)
    Process(desk, "opennsfw", "image-safety-s", "nsfwjs", "text-heads")
    return desk


async def done(pilot: Pilot[None], desk: Desk) -> None:
    """Until what was begun has ended, and is said."""
    await asyncio.to_thread(models.works(desk).wait, 30)
    await settle(pilot)


async def to(pilot: Pilot[None], name: str) -> None:
    """The cursor on that model."""
    rows = pilot.app.screen.query_one("#models", Rows)
    rows.move_to(next(n for n in range(rows.row_count) if (line := rows.line_at(n)) and line.key == name))
    await settle(pilot)


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


def kept(desk: Desk) -> list[audit.Line]:
    """The audit log, the newest line first."""
    return audit.page(desk.house.db.reader(), audit.Filter())


def lines(desk: Desk) -> list[tuple[str, str, str]]:
    return [(one.actor, one.action, one.subject) for one in kept(desk)]


def shown(pilot: Pilot[None], name: str) -> tuple[str, ...]:
    rows = pilot.app.screen.query_one("#models", Rows)
    found = (rows.line_at(n) for n in range(rows.row_count))
    return next(tuple(str(cell) for cell in line.cells) for line in found if line and line.key == name)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_models_that_are_here_and_what_answers(
    full: Desk, shoot: Shoot, size: tuple[int, int], where: str, theme: str
) -> None:
    shoot(full, "models", f"models_full_{where}_{theme}", size=size, theme=f"textual-{theme}")


def test_nothing_installed(desk: Desk, shoot: Shoot) -> None:
    Process(desk)
    shoot(desk, "models", "models_nothing_installed")


def test_no_manifest_at_all(desk: Desk, shoot: Shoot, tmp_path: Path) -> None:
    Process(desk)
    (tmp_path / "none").mkdir()
    desk.settings = msgspec.structs.replace(desk.settings, models_dir=tmp_path / "none")
    shoot(desk, "models", "models_empty")


def test_the_model_process_down(desk: Desk, shoot: Shoot) -> None:
    stock(desk)
    shoot(desk, "models", "models_process_down")


def test_a_manifest_that_cannot_be_read(full: Desk, shoot: Shoot) -> None:
    (full.settings.models_dir / "nsfwjs" / "manifest.toml").write_text("name = 7")
    shoot(full, "models", "models_failing")


def test_cuda_asked_for_and_not_used(full: Desk, shoot: Shoot) -> None:
    process = full.models
    assert isinstance(process, Process)
    process.falls_short = {"opennsfw"}
    shoot(full, "models", "models_falls_short")


def test_all_that_is_said_of_one(full: Desk, shoot: Shoot) -> None:
    shoot(full, "models", "models_detail", press=["enter"])


def test_all_that_is_said_of_one_beside_the_list(full: Desk, shoot: Shoot) -> None:
    shoot(full, "models", "models_detail_wide", press=["enter"], size=WIDE)


def test_a_fetch_under_way(full: Desk, shoot: Shoot) -> None:
    go_on = threading.Event()

    def held(progress: models.Progress) -> str:
        progress("qwen3-vl-2b.gguf", 670_000_000, 1_560_000_000)
        go_on.wait(30)
        return ""

    async def begin(pilot: Pilot[None]) -> None:
        models.works(full).start("fetch", "qwen3-vl-2b", held)
        await settle(pilot)

    try:
        shoot(full, "models", "models_fetch_under_way", doing=begin)
        shoot(full, "models", "models_fetch_under_way_wide", size=WIDE)
    finally:
        go_on.set()
        models.works(full).wait(30)


def test_the_licence_is_said_before_anything_travels(full: Desk, shoot: Shoot) -> None:
    async def ask(pilot: Pilot[None]) -> None:
        await to(pilot, "qwen3-vl-2b")
        await press(pilot, "f")

    shoot(full, "models", "models_fetch_asks", doing=ask)


def test_terms_are_shown_and_to_be_accepted(full: Desk, shoot: Shoot) -> None:
    async def ask(pilot: Pilot[None]) -> None:
        await to(pilot, "llama-guard-3-8b")
        await press(pilot, "f")

    shoot(full, "models", "models_fetch_terms", doing=ask)


def test_the_question_before_weights_are_deleted(full: Desk, shoot: Shoot) -> None:
    async def ask(pilot: Pilot[None]) -> None:
        await to(pilot, "nsfwjs")
        await press(pilot, "X")

    shoot(full, "models", "models_remove_asks", doing=ask)


def test_the_form_of_an_import(full: Desk, shoot: Shoot) -> None:
    shoot(full, "models", "models_import", press=["i"])


def test_what_a_try_says(full: Desk, shoot: Shoot) -> None:
    said = "nsfw        0.004  < 0.5  nsfw: False\nsfw         0.996\nopennsfw on cpu, 18 ms, weights 864bb37bf863"

    async def tried(pilot: Pilot[None]) -> None:
        models.works(full).start("try", "opennsfw", lambda _: said)
        await done(pilot, full)

    shoot(full, "models", "models_tried", doing=tried)


# --- deeds ------------------------------------------------------------------------------------------------------------


def test_a_model_is_fetched_after_a_question_and_written_down(desk: Desk) -> None:
    Process(desk)

    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "opennsfw")
        await press(pilot, "f")
        asked = pilot.app.screen
        assert isinstance(asked, Confirm)
        assert asked.focused is asked.query_one("#cancel", Button)
        assert "Licence: BSD-2-Clause. Made for a test." in str(asked.query_one("#text", Static).render())
        await press(pilot, "escape")
        assert models.works(desk).last is None
        await press(pilot, "f", "tab", "enter")
        await done(pilot, desk)
        assert shown(pilot, "opennsfw")[1] == "● here"

    drive(desk, "models", look)
    assert (desk.settings.weights_dir / "opennsfw/opennsfw.onnx").read_bytes() == b"weights of a toy"
    assert lines(desk) == [(desk.actor, "models.fetched", "opennsfw")]


def test_terms_have_to_be_typed_to_be_accepted(desk: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "llama-guard-3-8b")
        await press(pilot, "f")
        assert pilot.app.screen.query_one("#yes", Button).disabled
        pilot.app.screen.query_one("#word", Input).value = "accept"
        await settle(pilot)
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        await done(pilot, desk)

    drive(desk, "models", look)
    assert lines(desk) == [(desk.actor, "models.fetched", "llama-guard-3-8b")]


def test_a_fetch_without_a_route_names_the_import(desk: Desk, tmp_path: Path) -> None:
    manifest = desk.settings.models_dir / "opennsfw" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("file:weights.bin", "https://weights.invalid/weights.bin"))

    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "opennsfw")
        await press(pilot, "f", "tab", "enter")
        await done(pilot, desk)
        told = pilot.app.screen
        assert isinstance(told, Told)
        said = str(told.query_one("#text", Static).render())
        assert "cannot be reached" in said
        assert "press i" in said
        assert "customhouse models import FILE" in said

    drive(desk, "models", look)
    assert not (desk.settings.weights_dir / "opennsfw" / "opennsfw.onnx").exists()
    assert lines(desk) == []


def test_a_file_is_imported_by_its_digest(desk: Desk, tmp_path: Path) -> None:
    describe(desk.settings.models_dir, "own-toy", b"another toy")
    (tmp_path / "brought").write_bytes(b"another toy")

    async def look(pilot: Pilot[None]) -> None:
        await press(pilot, "i")
        form = pilot.app.screen
        assert isinstance(form, Form)
        form.query_one("#ask-path", Input).value = str(tmp_path / "not-there")
        await settle(pilot)
        form.action_accept()
        await settle(pilot)
        assert "there is no such file" in str(form.query_one("#wrong", Static).render())
        form.query_one("#ask-path", Input).value = str(tmp_path / "brought")
        await settle(pilot)
        form.action_accept()
        await settle(pilot)
        await done(pilot, desk)
        assert shown(pilot, "own-toy")[1] == "● here"

    drive(desk, "models", look)
    assert lines(desk) == [(desk.actor, "models.imported", "own-toy")]


def test_a_model_of_ones_own_comes_with_its_manifest(desk: Desk, tmp_path: Path) -> None:
    describe(tmp_path / "brought", "mine", b"my own weights")
    models.bring(desk, tmp_path / "brought/mine/weights.bin", "", tmp_path / "brought/mine/manifest.toml")
    models.works(desk).wait(30)
    last = models.works(desk).last
    assert last is not None
    assert last.said == "mine/mine.onnx: installed"
    assert [one.row.state for one in models.look(desk).models if one.row.name == "mine"] == ["installed"]
    assert [action for _, action, _ in lines(desk)] == ["models.imported", "models.described"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('runtime = "onnx"', 'runtime = "cobol"'), "no adapter opens runtime 'cobol'"),
        (("[input]\nwidth = 8\nheight = 8\n", ""), r"needs \[input\]"),
        (('name = "mine"', 'name = "../mine"'), "must be small letters"),
        (('name = "mine"', 'name = "opennsfw"'), "there is another model named opennsfw"),
    ],
)
def test_a_manifest_that_cannot_be_opened_is_refused_in_words(
    desk: Desk, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    describe(tmp_path / "brought", "mine", b"my own weights")
    path = tmp_path / "brought/mine/manifest.toml"
    path.write_text(path.read_text().replace(*change, 1))
    models.bring(desk, tmp_path / "brought/mine/weights.bin", "", path)
    models.works(desk).wait(30)
    last = models.works(desk).last
    assert last is not None
    assert last.state == "failed"
    assert re.search(said, last.said), last.said
    assert not (desk.settings.models_dir / "mine").exists()


def test_a_changed_file_fails_its_check_and_the_reason_is_shown(full: Desk) -> None:
    (full.settings.weights_dir / "nsfwjs/nsfwjs.onnx").write_bytes(b"other weights")

    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "nsfwjs")
        await press(pilot, "v")
        await done(pilot, full)
        assert isinstance(pilot.app.screen, Told)
        assert "has another digest" in str(pilot.app.screen.query_one("#text", Static).render())
        await press(pilot, "enter")
        assert shown(pilot, "nsfwjs")[1] == "✗ differs"

    drive(full, "models", look)


def test_weights_are_removed_after_a_question_and_written_down(full: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "nsfwjs")
        await press(pilot, "X")
        asked = pilot.app.screen
        assert isinstance(asked, Confirm)
        assert asked.focused is asked.query_one("#cancel", Button)
        assert "Jobs that ask nsfw, ai_adult_general fail" in str(asked.query_one("#text", Static).render())
        await press(pilot, "enter")
        assert (full.settings.weights_dir / "nsfwjs/nsfwjs.onnx").exists()
        await press(pilot, "X", "tab", "enter")
        await done(pilot, full)
        assert shown(pilot, "nsfwjs")[1] == "○ not here"

    drive(full, "models", look)
    assert not (full.settings.weights_dir / "nsfwjs").exists()
    assert lines(full) == [(full.actor, "models.removed", "nsfwjs")]


def test_a_model_is_unloaded_with_a_reason_and_undone(full: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "opennsfw")
        await press(pilot, "U")
        form = pilot.app.screen
        assert isinstance(form, Form)
        assert form.focused is form.query_one("#cancel", Button)
        form.query_one("#ask-reason", Input).value = "making room"
        await settle(pilot)
        form.action_accept()
        await settle(pilot)
        await done(pilot, full)
        assert shown(pilot, "opennsfw")[2] == "○ not loaded"
        await press(pilot, "u")
        await done(pilot, full)
        assert shown(pilot, "opennsfw")[2] == "● ready"
        await press(pilot, "r")
        await done(pilot, full)

    drive(full, "models", look)
    assert [action for _, action, _ in lines(full)] == ["models.reopened", "models.loaded", "models.unloaded"]
    assert kept(full)[-1].reason == "making room"


def test_who_may_only_look_changes_nothing_but_verifies(desk: Desk) -> None:
    stock(desk)
    Process(desk, "opennsfw")
    desk.access = Access("operator:guest", False, "You may look, not change")

    async def look(pilot: Pilot[None]) -> None:
        await to(pilot, "opennsfw")
        for key in ("f", "i", "l", "r", "U", "X"):
            await press(pilot, key)
            assert not isinstance(pilot.app.screen, Confirm | Form), key
            assert models.works(desk).last is None, key
        await press(pilot, "v")
        await done(pilot, desk)
        last = models.works(desk).last
        assert last is not None
        assert last.state == "done"

    drive(desk, "models", look)
    assert lines(desk) == []


def test_the_filter_narrows_and_escape_shows_all(full: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await press(pilot, "slash", "g", "u", "a", "r", "d")
        rows = pilot.app.screen.query_one("#models", Rows)
        assert rows.row_count == 1
        await press(pilot, "escape")
        assert rows.row_count == len(SHELF)

    drive(full, "models", look)


def test_work_goes_on_while_another_screen_is_seen_and_is_found_again(full: Desk) -> None:
    go_on = threading.Event()

    def held(progress: models.Progress) -> str:
        go_on.wait(30)
        progress("weights", 1, 2)
        return "fetched and verified"

    async def look(pilot: Pilot[None]) -> None:
        models.works(full).start("fetch", "nsfwjs", held)
        await press(pilot, "g", "k")
        await until(pilot, lambda: not pilot.app.screen.query(Working))
        await press(pilot, "g", "m")
        await until(pilot, lambda: bool(pilot.app.screen.query(Working)))
        line = pilot.app.screen.query_one(Working)
        await until(pilot, lambda: "under way" in str(line.render()))
        go_on.set()
        await done(pilot, full)
        await until(pilot, lambda: "✓ fetch nsfwjs: fetched and verified" in str(line.render()))

    drive(full, "models", look)


# --- work -------------------------------------------------------------------------------------------------------------


def test_cancelled_work_leaves_no_half_of_a_file(desk: Desk) -> None:
    """A fetch that is cancelled as it is told of its first bytes."""
    works = models.works(desk)

    def hear(work: models.Work) -> None:
        if work.what:
            works.cancel()

    works.listen(hear)
    big = b"x" * 4_000_000
    describe(desk.settings.models_dir, "big", big)
    (desk.home / "big").write_bytes(big)
    models.bring(desk, desk.home / "big", "big")
    works.wait(30)
    assert works.last is not None
    assert works.last.state == "cancelled"
    assert list((desk.settings.weights_dir).glob("big/*")) == []
    assert lines(desk) == []


def test_one_piece_of_work_at_a_time(desk: Desk) -> None:
    go_on = threading.Event()
    works = Works()
    works.start("fetch", "one", lambda _: f"{go_on.wait(30)}")
    with pytest.raises(Conflict, match="fetch one is under way"):
        works.start("fetch", "two", lambda _: "")
    go_on.set()
    works.wait(30)
    assert works.last is not None
    assert works.last.state == "done"
    assert not works.cancel()
    works.close()


def test_a_burst_is_told_once(desk: Desk) -> None:
    heard: list[str] = []
    works = Works()
    works.listen(lambda work: heard.append(work.what))

    def busy(progress: models.Progress) -> str:
        for done_bytes in range(2_000):
            progress("a file", done_bytes, 2_000)
        return "done"

    works.start("fetch", "one", busy)
    works.wait(30)
    works.close()
    assert len(heard) < 200
    assert works.last == replace(works.last, state="done", said="done") if works.last else False


# --- a real process ---------------------------------------------------------------------------------------------------


def test_a_real_model_is_loaded_tried_and_unloaded(house: House, tmp_path: Path) -> None:
    """Bright or dark, of a photograph, by a process of its own; the manifest came after it had begun."""
    folder = tmp_path / "models"
    tinyonnx.install(house.settings.home, folder, "bright")
    with tinyonnx.Process(house.settings.home, folder, CUSTOMHOUSE_INFERENCE_MODELS="bright") as process:
        tinyonnx.install(house.settings.home, folder, "late")
        settings = msgspec.structs.replace(house.settings, models_dir=folder)
        desk = Desk(settings, now=lambda: NOON)
        assert process.socket == desk.settings.inference_socket

        async def look(pilot: Pilot[None]) -> None:
            await to(pilot, "late")
            assert shown(pilot, "late")[2] == "—"
            await press(pilot, "l")
            await done(pilot, desk)
            assert shown(pilot, "late")[2:4] == ("● ready", "cpu")
            await press(pilot, "t")
            form = pilot.app.screen
            assert isinstance(form, Form)
            form.query_one("#ask-what", Input).value = str(MEDIA / "rocket.jpg")
            await settle(pilot)
            form.action_accept()
            await settle(pilot)
            await done(pilot, desk)
            said = str(pilot.app.screen.query_one("#text", Static).render())
            assert "bright" in said
            assert "late on cpu" in said

        drive(desk, "models", look)
        assert lines(desk) == [(desk.actor, "models.loaded", "late")]
        models.works(desk).close()
        desk.close()


def test_a_process_that_dies_is_said_and_the_rest_stays(desk: Desk) -> None:
    stock(desk)
    found = models.look(desk)
    assert found.process is None
    assert "does not answer" in found.why_not
    assert {one.standing for one in found.answers if one.model == "opennsfw"} == {"installed"}
    with pytest.raises(InferenceDown):
        desk.models.status()
