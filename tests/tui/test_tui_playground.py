"""The playground: both ways of a text, pictures and a video decoded for real, and that nothing of it is kept."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static, TextArea

from appliance.accounts import organisations, toggles
from appliance.demo import MEDIA
from appliance.errors import Conflict, InferenceDown, NotFound
from appliance.house import House
from appliance.inference.client import Models
from appliance.inference.wire import Answer, LookRequest, Pixels, ReadRequest
from appliance.media.blurred import SIDE, blurred
from appliance.policies import rows as policies
from appliance.settings import Settings
from appliance.text import keywords
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import playground
from tui.backend.desk import Access, Desk
from tui.backend.playground import Seen, Text
from tui.screens.working import Working
from tui.widgets.dialogs import Confirm, Told
from tui.widgets.paths import complete

TABLES = ("job", "child", "moderation_event", "audit", "ledger", "organisation", "policy")
LOOKS = {
    "opennsfw": {"nsfw": 0.012, "sfw": 0.988},
    "nsfwjs": {"Porn": 0.01, "Hentai": 0.004, "Sexy": 0.02, "Neutral": 0.966, "Drawing": 0.0},
    "image-safety-s": {"NSFW": 0.037, "NSFL": 0.033},
    "faces-age": {"under_18": 0.001},
}
READS = {"prohibited": 0.04, "sexual": 0.01, "violence": 0.02, "violence/graphic": 0.003, "self-harm": 0.001}


class Readers(Models):
    """A model process that answers from a table."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), 1.0)
        self.looks = {name: dict(scores) for name, scores in LOOKS.items()}
        self.reads = dict(READS)

    def look(self, request: LookRequest) -> list[dict[str, Answer]]:
        return [{name: self._answer(self.looks[name]) for name in request.models} for _ in request.images]

    def read(self, request: ReadRequest, deadline_s: float | None = None) -> list[dict[str, Answer]]:
        return [{name: self._answer(self.reads) for name in request.models} for _ in request.texts]

    @staticmethod
    def _answer(scores: dict[str, float]) -> Answer:
        return Answer(scores=scores, device="cpu", digest="864bb37bf863", ms=18.0)


@pytest.fixture
def desk(house: House, settings: Settings) -> Iterator[Desk]:
    desk = Desk(settings, now=lambda: NOON)
    desk.house.db.write(lambda conn: keywords.add(conn, "zeppelin", org_id=None, actor="operator:test"))
    yield desk
    playground.ground(desk).close()
    desk.close()


@pytest.fixture
def reading(desk: Desk) -> Readers:
    """The models answer, from a table."""
    answering = Readers()
    playground.ground(desk).playground._models = answering  # pyright: ignore[reportPrivateUsage] the process's place
    return answering


async def still(pilot: Pilot[None], desk: Desk) -> None:
    """Done; and how long it took is the same in every run."""
    there = playground.ground(desk)
    await asyncio.to_thread(there.works.wait, 60)
    await settle(pilot)
    if there.result is not None and there.works.last is not None:
        there.result = msgspec.structs.replace(there.result, ms=42.0)
        there.works.last = replace(there.works.last, said="42 ms; nothing was kept")
        pilot.app.screen.query_one(Working).on_resize()
        await pilot.press("f5")
        await settle(pilot)


async def screen_text(pilot: Pilot[None], desk: Desk, text: str) -> None:
    await pilot.press("t")
    await settle(pilot)
    pilot.app.screen.query_one("#text", TextArea).text = text
    await pilot.press("ctrl+s")
    await settle(pilot)
    await still(pilot, desk)


async def screen_file(pilot: Pilot[None], desk: Desk, path: Path) -> None:
    await pilot.press("f")
    await settle(pilot)
    pilot.app.screen.query_one("#path", Input).value = str(path)
    await pilot.press("enter")
    await settle(pilot)
    await still(pilot, desk)


def result(desk: Desk) -> Text | Seen | None:
    return playground.ground(desk).result


def counts(house: House | Desk) -> list[int]:
    conn = (house.house if isinstance(house, Desk) else house).db.reader()
    return [conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


def local(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy under a path that is the same in every run."""
    monkeypatch.chdir(path)
    (path / name).write_bytes((MEDIA / name).read_bytes())
    return Path(name)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_nothing_screened_yet(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "playground", "playground_empty")


@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_blocked_text(
    desk: Desk, reading: Readers, shoot: Shoot, size: tuple[int, int], where: str, theme: str
) -> None:
    async def type_it(pilot: Pilot[None]) -> None:
        await screen_text(pilot, desk, "The Z3ppel1n is here, b u y now")

    name = f"playground_blocked_{where}_{theme}"
    shoot(desk, "playground", name, doing=type_it, size=size, theme=f"textual-{theme}")


@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
def test_an_allowed_picture(
    desk: Desk,
    reading: Readers,
    shoot: Shoot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    where: str,
) -> None:
    path = local(tmp_path, "rocket.jpg", monkeypatch)

    async def name_it(pilot: Pilot[None]) -> None:
        await screen_file(pilot, desk, path)

    shoot(desk, "playground", f"playground_picture_{where}", doing=name_it, size=size)


def test_a_prohibited_video(
    desk: Desk, reading: Readers, shoot: Shoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading.looks["opennsfw"] = {"nsfw": 0.61, "sfw": 0.39}
    path = local(tmp_path, "scenes.webm", monkeypatch)

    async def name_it(pilot: Pilot[None]) -> None:
        await screen_file(pilot, desk, path)

    shoot(desk, "playground", "playground_video", doing=name_it)


def test_the_model_process_down(desk: Desk, shoot: Shoot) -> None:
    async def type_it(pilot: Pilot[None]) -> None:
        await screen_text(pilot, desk, "a lighthouse at dawn")

    shoot(desk, "playground", "playground_process_down", doing=type_it)


def test_a_file_that_is_no_picture(desk: Desk, shoot: Shoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.jpg").write_text("not a picture at all")

    async def name_it(pilot: Pilot[None]) -> None:
        await screen_file(pilot, desk, Path("notes.jpg"))

    shoot(desk, "playground", "playground_failing", doing=name_it)


def test_the_question_before_anything_is_shown(
    desk: Desk, reading: Readers, shoot: Shoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local(tmp_path, "rocket.jpg", monkeypatch)

    async def ask(pilot: Pilot[None]) -> None:
        await screen_file(pilot, desk, path)
        await pilot.press("b")

    shoot(desk, "playground", "playground_blur_asks", doing=ask)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_term_ends_a_prompt_and_what_was_undone_is_said(desk: Desk, reading: Readers) -> None:
    found = playground.ground(desk).playground.text(playground.NOBODY, None, "The Z3ppel1n is here")
    assert (found.pipeline.outcome, found.pipeline.term) == ("prohibited", "zeppelin")
    assert [(one.term, one.analyzer, one.piece, one.disguise) for one in found.found if one.term == "zeppelin"] == [
        ("zeppelin", "blocklist", "Z3ppel1n", "leetspeak")
    ]
    assert ("leetspeak", "the zeppelin is here") in [(one.disguise, one.text) for one in found.forms]
    assert found.forms[0].text == "the z3ppel1n is here"
    assert found.decided is not None
    assert found.decided.decision == "block"


def test_the_heads_decide_a_prompt_that_the_lists_pass(desk: Desk, reading: Readers) -> None:
    reading.reads["prohibited"] = 0.9
    found = playground.ground(desk).playground.text(playground.NOBODY, None, "a lighthouse")
    assert found.pipeline.outcome == "prohibited"
    assert next((one.label, one.is_over) for one in found.pipeline.scores) == ("prohibited", True)


def test_with_the_models_down_the_rules_answer_and_the_rest_is_said(desk: Desk) -> None:
    found = playground.ground(desk).playground.text(playground.NOBODY, None, "a lighthouse")
    assert found.pipeline.outcome == "undecided"
    assert found.pipeline.problem is not None
    assert "does not answer" in found.pipeline.problem
    assert found.decided is not None
    assert (found.decided.provider_status, found.decided.degraded_reason) == ("degraded", "text_heads_unavailable")
    blocked = playground.ground(desk).playground.text(playground.NOBODY, None, "a zeppelin")
    assert blocked.pipeline.outcome == "prohibited"


def test_a_picture_with_the_models_down_is_undecided_not_allowed(desk: Desk) -> None:
    found = playground.ground(desk).playground.file(playground.NOBODY, MEDIA / "rocket.jpg")
    assert found.outcome == "undecided"
    assert found.pictures == 1
    assert {one.subject for one in found.unanswered} == {"nsfw", "ai_adult_general", "underage"}


def test_a_video_tells_when_it_is_prohibited(desk: Desk, reading: Readers) -> None:
    reading.looks["opennsfw"] = {"nsfw": 0.61, "sfw": 0.39}
    found = playground.ground(desk).playground.file(playground.NOBODY, MEDIA / "scenes.webm")
    assert (found.kind, found.outcome) == ("video", "prohibited")
    assert found.times_ms == found.over_ms
    assert len(found.times_ms) == found.pictures > 1
    assert next(one for one in found.scores if one.model == "opennsfw").at_ms == found.times_ms[0]


def test_an_organisations_checks_and_policies_count(desk: Desk, reading: Readers) -> None:
    org = desk.house.db.write(lambda conn: organisations.create(conn, "Acme")).id
    desk.house.db.write(lambda conn: toggles.replace(conn, org, {"underage": False}, actor="operator:test"))
    desk.house.db.write(lambda conn: policies.begin(conn, org, desk.settings.policies_dir))
    found = playground.ground(desk).playground.file(org, MEDIA / "rocket.jpg")
    assert "underage" not in found.categories
    text = playground.ground(desk).playground.text(org, policies.DEFAULT, "hello")
    assert text.decided is not None
    assert (text.decided.policy, text.decided.version) == (policies.DEFAULT, 1)
    assert playground.policies(desk, org) == [one.slug for one in policies.every(desk.house.db.reader(), org)]


@pytest.mark.usefixtures("reading")
def test_nothing_is_kept_counted_or_charged(desk: Desk) -> None:
    org = desk.house.db.write(lambda conn: organisations.create(conn, "Acme")).id
    before = counts(desk)

    async def look(pilot: Pilot[None]) -> None:
        await screen_text(pilot, desk, "a zeppelin")
        await screen_file(pilot, desk, MEDIA / "rocket.jpg")

    drive(desk, "playground", look)
    playground.ground(desk).playground.text(org, None, "a lighthouse")
    assert counts(desk) == before
    assert list(desk.settings.media_dir.iterdir()) == []


@pytest.mark.usefixtures("reading")
def test_who_may_only_look_may_play(desk: Desk) -> None:
    desk.access = Access("operator:guest", False, "You may look, not change")

    async def look(pilot: Pilot[None]) -> None:
        await screen_text(pilot, desk, "a zeppelin")
        found = result(desk)
        assert isinstance(found, Text)

    drive(desk, "playground", look)


def test_an_organisation_and_a_policy_are_chosen(desk: Desk) -> None:
    org = desk.house.db.write(lambda conn: organisations.create(conn, "Acme")).id
    desk.house.db.write(lambda conn: policies.begin(conn, org, desk.settings.policies_dir))

    async def look(pilot: Pilot[None]) -> None:
        await pilot.press("o")
        await settle(pilot)
        await pilot.press(*"acme", "enter")
        await settle(pilot)
        assert "For Acme" in str(pilot.app.screen.query_one("#ground", Static).render())
        await pilot.press("p")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert policies.DEFAULT in str(pilot.app.screen.query_one("#ground", Static).render())

    drive(desk, "playground", look)


# --- showing ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reading")
def test_a_picture_is_shown_blurred_after_two_steps_only(desk: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await screen_file(pilot, desk, MEDIA / "rocket.jpg")
        await pilot.press("b")
        await settle(pilot)
        asked = pilot.app.screen
        assert isinstance(asked, Confirm)
        assert asked.focused is asked.query_one("#cancel", Button)
        assert asked.query_one("#yes", Button).disabled
        await pilot.press("enter")
        await settle(pilot)
        assert not isinstance(pilot.app.screen, Told)
        await pilot.press("b")
        await settle(pilot)
        pilot.app.screen.query_one("#word", Input).value = "show"
        await settle(pilot)
        pilot.app.screen.query_one("#yes", Button).press()
        await settle(pilot)
        assert isinstance(pilot.app.screen, Told)
        drawn = str(pilot.app.screen.query_one("#text", Static).render())
        assert set(drawn) <= {"▀", "\n"}
        assert len(drawn.splitlines()) <= SIDE // 2

    drive(desk, "playground", look)


def test_what_may_show_a_minor_is_never_shown(desk: Desk, reading: Readers) -> None:
    reading.looks["faces-age"] = {"under_18": 0.9}
    ground = playground.ground(desk).playground
    ground.file(playground.NOBODY, MEDIA / "rocket.jpg")
    with pytest.raises(Conflict, match="is not shown"):
        ground.blurred()
    del reading.looks["faces-age"]
    reading.looks["faces-age"] = {}
    ground.file(playground.NOBODY, MEDIA / "rocket.jpg")
    with pytest.raises(Conflict, match="could not be asked"):
        ground.blurred()


def test_without_a_picture_there_is_none_to_show(desk: Desk) -> None:
    with pytest.raises(NotFound):
        playground.blurred(desk)


def test_a_blur_has_few_squares_and_no_edge() -> None:
    sharp = bytes(255 if (x // 40) % 2 else 0 for _ in range(100) for x in range(400) for _ in range(3))
    rows = blurred(Pixels(400, 100, sharp))
    assert (len(rows), len(rows[0])) == (6, SIDE)
    assert all(0 < level < 255 for row in rows for colour in row[2:-2] for level in colour)


# --- the field and the work -------------------------------------------------------------------------------------------


def test_a_path_completes(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "photo.jpg").touch()
    (tmp_path / ".hidden").touch()
    assert complete(f"{tmp_path}/pi") == f"{tmp_path}/pictures/"
    assert complete(f"{tmp_path}/ph") == f"{tmp_path}/photo.jpg"
    assert complete(f"{tmp_path}/") == f"{tmp_path}/photo.jpg"
    assert complete(f"{tmp_path}/.h") == f"{tmp_path}/.hidden"
    for nothing in ("", "~", f"{tmp_path}/x", f"{tmp_path}/photo.jpg", "/no/such/folder/a", "\0"):
        assert complete(nothing) is None


def test_nothing_to_screen_is_said(desk: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert result(desk) is None
        assert playground.ground(desk).works.last is None
        await pilot.press("f")
        await settle(pilot)
        pilot.app.screen.query_one("#path", Input).value = "/no/such/file.jpg"
        await pilot.press("enter")
        await settle(pilot)
        assert playground.ground(desk).works.last is None

    drive(desk, "playground", look)


def test_a_video_that_is_cancelled_leaves_no_frames(
    desk: Desk, reading: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    works = playground.ground(desk).works
    asked = threading.Event()

    def hear(work: object) -> None:
        if works.last is not None and works.last.what and not asked.is_set():
            asked.set()
            works.cancel()

    works.listen(hear)
    playground.screen_file(desk, playground.NOBODY, MEDIA / "scenes.webm")
    works.wait(60)
    assert works.last is not None
    assert works.last.state == "cancelled"
    assert result(desk) is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("customhouse-frames")] == []


def test_the_readers_that_are_down_are_down(desk: Desk) -> None:
    with pytest.raises(InferenceDown):
        desk.models.status()
