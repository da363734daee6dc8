"""The screen of blocklists: searched, added to, imported, and a sentence with every match explained."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from appliance import audit, clock
from appliance.access import Access
from appliance.accounts.keys import Caller
from appliance.audit import Filter
from appliance.house import House
from appliance.settings import Settings
from appliance.text import keywords, named_lists
from appliance.text.named_lists import Item
from tests.cast import Person
from tests.tui.conftest import NOON, SMALL, WIDE, Shoot, drive, settle
from tui.backend import blocklists
from tui.backend.desk import Desk
from tui.widgets.dialogs import Form, Told
from tui.widgets.rows import Rows

SENTENCE = "A L@mppost, a lampshade, and a crane fly on the harb0ur wall"


@pytest.fixture
def full(house: House, alice: Person, charlie: Person) -> House:
    def fill(conn: Any) -> None:
        by: Any = {"actor": "operator:test", "reason": "a test"}
        for term, match, category in (
            ("lamppost", "word", "street"),
            ("harbour", "word", None),
            ("post.?box", "regex", "street"),
            ("gate", "substring", None),
        ):
            keywords.add(conn, term, org_id=None, match=match, category=category, **by)
        made = keywords.add(conn, "lighthouse", org_id=None, **by)
        keywords.change(conn, made.id, enabled=False, **by)
        keywords.add(conn, "shade", org_id=alice.org_id, match="substring", category="lamps", **by)
        caller = Caller(alice.org_id, alice.key_id, "alice", "p", frozenset())
        named_lists.put(conn, caller, "insects", "Small ones", keeps_description=False)
        named_lists.add_items(conn, caller, "insects", [Item("i1", "crane fly", "Tipulidae"), Item("i2", "wasp")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_ms", lambda: NOON - 3_600_000)
        house.db.write(fill)
    return house


def said(house: House, action: str) -> list[tuple[str, str | None]]:
    lines = audit.page(house.db.reader(), Filter(action=action))
    return [(one.actor, one.reason) for one in lines if one.actor != "operator:test"]


def told(pilot: Pilot[None]) -> list[str]:
    return [one.message for one in pilot.app._notifications]


def terms(house: House, org_id: str | None = None) -> list[str]:
    return [one.keyword for one in keywords.every(house.db.reader(), org_id)]


async def press(pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def accept(pilot: Pilot[None], **values: str) -> None:
    assert isinstance(pilot.app.screen, Form), pilot.app.screen
    for name, value in values.items():
        field: Any = pilot.app.screen.query_one(f"#ask-{name}")
        field.value = value
    await settle(pilot)
    await press(pilot, "ctrl+s")


async def try_own(pilot: Pilot[None]) -> None:
    await choose(pilot, "A's own")
    await try_sentence(pilot)


async def try_sentence(pilot: Pilot[None]) -> None:
    await press(pilot, "t")
    pilot.app.screen.query_one("#filter", Input).value = SENTENCE
    await press(pilot, "enter")


async def choose(pilot: Pilot[None], words: str) -> None:
    await press(pilot, "l")
    pilot.app.screen.query_one("#find", Input).value = words
    await settle(pilot)
    await press(pilot, "enter")


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_the_screen_full(full: House, desk: Desk, shoot: Shoot, size: tuple[int, int], theme: str) -> None:
    name = f"{'small' if size == SMALL else 'wide'}_{theme.removeprefix('textual-')}"
    shoot(desk, "blocklists", f"blocklists_{name}", size=size, theme=theme)
    shoot(desk, "blocklists", f"blocklists_test_{name}", doing=try_own, size=size, theme=theme)


def test_the_screen_empty(house: House, desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "blocklists", "blocklists_empty")


def test_the_screen_failing(house: House, desk: Desk, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Desk) -> Any:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(blocklists, "lists", broken)
    shoot(desk, "blocklists", "blocklists_failing")


def test_the_other_lists(full: House, desk: Desk, shoot: Shoot) -> None:
    async def named(pilot: Pilot[None]) -> None:
        await choose(pilot, "insects")

    shoot(desk, "blocklists", "blocklists_named", doing=named)
    shoot(desk, "blocklists", "blocklists_lists", press=["l"])


def test_the_dialogs(full: House, desk: Desk, shoot: Shoot, tmp_path: Path) -> None:
    file = tmp_path / "terms"
    file.write_text("quay\nlamppost\n#! match=regex category=street\nlamp(\n(a*)*b?\npier.?head\n")

    async def importing(pilot: Pilot[None]) -> None:
        await press(pilot, "i")
        await accept(pilot, path=str(file))

    async def one_match(pilot: Pilot[None]) -> None:
        await try_sentence(pilot)
        await press(pilot, "enter")

    shoot(desk, "blocklists", "blocklists_add", press=["n"])
    shoot(desk, "blocklists", "blocklists_remove", press=["D"])
    shoot(desk, "blocklists", "blocklists_import", doing=importing)
    shoot(desk, "blocklists", "blocklists_match", doing=one_match)


# --- what is done ----------------------------------------------------------------------------------------------------


def test_a_term_is_added_and_undone(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "n")
        await accept(pilot, term="lamp(", match="regex", reason="x")
        assert "missing )" in str(pilot.app.screen.query_one("#wrong", Static).content)
        await accept(pilot, term="quay", match="word", category="water", reason="a client asked")
        assert "quay" in terms(full)
        await press(pilot, "u")
        assert "quay" not in terms(full)

    drive(desk, "blocklists", doing)
    assert said(full, "blocklist.add") == [(desk.actor, "a client asked")]
    assert said(full, "blocklist.remove") == [(desk.actor, "undone at the desk")]


def test_a_term_is_removed_and_put_back(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "slash")
        pilot.app.screen.query_one("#filter", Input).value = "STREET"
        await settle(pilot)
        rows = pilot.app.screen.query_one("#terms-rows", Rows)
        assert rows.row_count == 2
        await press(pilot, "enter", "D")
        assert pilot.app.screen.query_one("#cancel", Button).has_focus
        await press(pilot, "ctrl+s")
        assert isinstance(pilot.app.screen, Form)  # a reason is needed
        await accept(pilot, reason="a mistake")
        assert "lamppost" not in terms(full)
        await press(pilot, "u")
        assert "lamppost" in terms(full)

    drive(desk, "blocklists", doing)
    assert said(full, "blocklist.remove") == [(desk.actor, "a mistake")]
    again = next(one for one in keywords.every(full.db.reader(), None) if one.keyword == "lamppost")
    assert (again.match, again.category, again.enabled) == ("word", "street", True)


def test_a_term_is_switched_off_and_on(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "s")
        await accept(pilot, reason="too many gates")
        assert not keywords.named(full.db.reader(), "gate", None)[0].enabled
        await press(pilot, "u")
        assert keywords.named(full.db.reader(), "gate", None)[0].enabled

    drive(desk, "blocklists", doing)
    assert said(full, "blocklist.change") == [(desk.actor, "undone at the desk"), (desk.actor, "too many gates")]


def test_a_file_is_imported_after_what_is_refused_was_seen(full: House, desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "terms"
    file.write_text("quay\nlamppost\n#! match=regex\nlamp(\n")

    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "i")
        await accept(pilot, path=str(tmp_path / "nothing"))
        assert "cannot be read" in str(pilot.app.screen.query_one("#wrong", Static).content)
        await accept(pilot, path=str(file))
        text = str(pilot.app.screen.query_one("#text", Static).content)
        assert "1 new, 1 there already, 1 refused" in text
        assert "line 4: “lamp(”: The expression cannot be used: missing )" in text
        await accept(pilot, reason="the city's list")

    drive(desk, "blocklists", doing)
    assert "quay" in terms(full)
    assert said(full, "blocklist.import") == [(desk.actor, "the city's list")]


def test_a_list_is_written_to_a_new_file_only(full: House, desk: Desk, tmp_path: Path) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "w")
        (tmp_path / "there").write_text("mine")
        await accept(pilot, path=str(tmp_path / "there"))
        assert "is there already" in str(pilot.app.screen.query_one("#wrong", Static).content)
        await accept(pilot, path=str(tmp_path / "out"))

    drive(desk, "blocklists", doing)
    assert "#! match=regex category=street\npost.?box" in (tmp_path / "out").read_text()
    assert (tmp_path / "there").read_text() == "mine"


def test_shipped_and_named_lists_are_only_read(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        for words in ("shipped en", "insects"):
            await choose(pilot, words)
            for key in ("n", "D", "s", "i"):
                await press(pilot, key)
                assert not isinstance(pilot.app.screen, Form)
        assert sum("only read" in one for one in told(pilot)) == 4
        assert pilot.app.screen.query_one("#terms-rows", Rows).row_count == 2

    drive(desk, "blocklists", doing)


def test_an_organisation_s_own_list_is_added_to(full: House, desk: Desk, alice: Person) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await choose(pilot, "A's own")
        await press(pilot, "n")
        await accept(pilot, term="pier", reason="theirs")

    drive(desk, "blocklists", doing)
    assert terms(full, alice.org_id) == ["pier", "shade"]
    assert "pier" not in terms(full)


def test_a_sentence_is_explained_for_one_organisation(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await choose(pilot, "A's own")
        await try_sentence(pilot)
        rows = pilot.app.screen.query_one("#test-rows", Rows)
        found = {str(rows.line_at(n).cells[1]): [str(c) for c in rows.line_at(n).cells] for n in range(rows.row_count)}  # type: ignore[union-attr]
        assert found["lamppost"][:3] == ["2–10", "lamppost", "everyone"]
        assert found["lamppost"][5:] == ["leetspeak", "✓ ends a prompt"]
        assert found["shade"][2] == "own"
        assert found["crane fly"][2] == "insects"
        assert "REFUSED" in str(pilot.app.screen.query_one("#verdict", Static).content)
        rows.move_to(0)
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, Told)
        await press(pilot, "escape", "escape")
        assert pilot.app.screen.query_one("#terms-rows", Rows).has_focus

    drive(desk, "blocklists", doing)


def test_who_may_only_look_tests_and_changes_nothing(full: House, settings: Settings) -> None:
    reader = Desk(settings, Access("operator:guest", False, "You are not of the group"), now=lambda: NOON)

    async def doing(pilot: Pilot[None]) -> None:
        for key in ("n", "D", "s", "i"):
            await press(pilot, key)
            assert not isinstance(pilot.app.screen, Form)
        assert told(pilot).count("You are not of the group") == 4
        await try_sentence(pilot)
        assert pilot.app.screen.query_one("#test-rows", Rows).row_count

    try:
        drive(reader, "blocklists", doing)
    finally:
        reader.close()


def test_what_steers_a_terminal_is_not_sent_to_it(full: House, desk: Desk) -> None:
    async def doing(pilot: Pilot[None]) -> None:
        await press(pilot, "t")
        pilot.app.screen.query_one("#filter", Input).value = "a \x1b[31mlamppost\x07"
        await press(pilot, "enter")
        shown = str(pilot.app.screen.query_one("#sentence", Static).content)
        assert "\x1b" not in shown
        assert "\x07" not in shown

    drive(desk, "blocklists", doing)


def test_a_hundred_thousand_terms_are_searched_a_window_at_a_time(house: House, desk: Desk) -> None:
    """Only what is seen is read: the search asks for a page, whatever the list's length."""
    house.db.write(
        lambda conn: conn.executemany(
            "INSERT INTO keyword (id, org_id, keyword, match, enabled, created_at) VALUES (?, NULL, ?, 'word', 1, 0)",
            ((f"k{number}", f"term number {number:06}") for number in range(100_000)),
        )
    )
    found = blocklists.search(desk, None, "99", 0, 200)
    assert (len(found), found[0].keyword) == (200, "term number 000099")
    assert blocklists.count(desk, None, "99") == sum("99" in f"{number:06}" for number in range(100_000))
    assert blocklists.search(desk, None, "", 99_800, 200)[-1].keyword == "term number 099999"
    assert blocklists.count(desk, None, "") == 100_000
