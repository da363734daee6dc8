"""The dialogs: what they answer, by keyboard alone, and that long texts scroll on 80×24."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from tui.widgets.dialogs import REASON, Asked, Choose, Confirm, Form, Going, Outcome, Progress, Shown, gauge

LONG = "\n".join(f"line {n} of what there is to say" for n in range(60))


class Hall(App[None]):
    def __init__(self, dialog: ModalScreen[Any]) -> None:
        super().__init__()
        self.dialog = dialog
        self.answers: list[Any] = []
        self.copied: list[str] = []

    def on_mount(self) -> None:
        self.push_screen(self.dialog, self.answers.append)

    def copy_to_clipboard(self, text: str) -> None:
        self.copied.append(text)


def hold(
    dialog: ModalScreen[Any], doing: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> Hall:
    app = Hall(dialog)
    app.animation_level = "none"

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await doing(pilot)
            await pilot.pause()

    asyncio.run(go())
    return app


def pressed(dialog: ModalScreen[Any], *keys: str, size: tuple[int, int] = (80, 24)) -> list[Any]:
    async def press(pilot: Pilot[None]) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
            await pilot.app.workers.wait_for_complete()

    return hold(dialog, press, size).answers


def is_seen(pilot: Pilot[None], selector: str) -> bool:
    """The whole of it is on the terminal."""
    region = pilot.app.screen.query_one(selector).region
    return region.area > 0 and pilot.app.screen.region.contains_region(region)


def test_confirm_is_no_unless_yes_is_chosen() -> None:
    assert pressed(Confirm("Go?", "It goes.", yes="Go"), "enter") == [False]
    assert pressed(Confirm("Go?", "It goes.", yes="Go"), "escape") == [False]
    assert pressed(Confirm("Go?", "It goes.", yes="Go"), "right", "enter") == [True]
    assert pressed(Confirm("Go?", "It goes.", yes="Go"), "tab", "enter") == [True]


def test_a_word_is_typed_before_yes() -> None:
    def asked() -> Confirm:
        return Confirm("Erase?", "All of it.", yes="Erase", word="acme")

    assert pressed(asked(), "right", "enter") == []
    assert pressed(asked(), "up", "a", "c", "m", "enter") == []  # not the whole word
    assert pressed(asked(), "up", "a", "c", "m", "e", "enter", "enter") == [True]
    assert pressed(asked(), "up", "a", "c", "m", "e", "escape") == [False]


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 20)])
def test_long_texts_scroll_and_the_buttons_stay(size: tuple[int, int]) -> None:
    async def look(pilot: Pilot[None]) -> None:
        assert is_seen(pilot, "#yes")
        assert is_seen(pilot, "#cancel")
        assert is_seen(pilot, "#title")
        said = pilot.app.screen.query_one("#said")
        await pilot.press("pagedown")
        await pilot.pause()
        assert said.scroll_offset.y > 0
        await pilot.press("pageup")
        await pilot.pause()
        assert said.scroll_offset.y == 0

    hold(Confirm("Sure?", LONG, yes="Yes", word="sure"), look, size)
    hold(Form("Sure?", [REASON, Asked("name", "Name"), Asked("more", "More")], yes="Yes", text=LONG), look, size)


def test_markup_and_escapes_of_others_are_letters() -> None:
    async def look(pilot: Pilot[None]) -> None:
        text = pilot.app.screen.query_one("#text", Static)
        assert str(text.render()) == "[red]x[/] \ufffd[31m"

    hold(Confirm("[b]t", "[red]x[/] \x1b[31m\u202e", yes="Yes"), look)


def test_a_form_says_what_is_wrong_and_keeps_what_was_typed() -> None:
    def number(value: str) -> str | None:
        return None if value.isdigit() else f"{value} is no number"

    asked = [Asked("count", "Count", is_required=True, wrong=number), REASON]

    async def fill(pilot: Pilot[None]) -> None:
        wrong = pilot.app.screen.query_one("#wrong", Static)
        await pilot.press("enter")
        await pilot.pause()
        assert str(wrong.render()) == "Count is needed"
        await pilot.press("x", "enter")
        await pilot.pause()
        assert str(wrong.render()) == "x is no number"
        await pilot.press("backspace", "7")
        await pilot.pause()
        assert str(wrong.render()) == ""
        await pilot.press("enter")
        await pilot.pause()
        assert str(wrong.render()).startswith("Reason")
        assert pilot.app.screen.focused is pilot.app.screen.query_one("#ask-reason")
        await pilot.press("o", "k", "space", "enter")

    assert hold(Form("Count", asked, yes="Count"), fill).answers == [{"count": "7", "reason": "ok"}]


def test_a_form_takes_choices_lines_and_secrets() -> None:
    asked = [
        Asked("kind", "Kind", value="b", choices=("a", "b")),
        Asked("words", "Words", lines=3, help="As many as you like."),
        Asked("secret", "Secret", is_secret=True),
    ]

    async def fill(pilot: Pilot[None]) -> None:
        await pilot.press("tab", "o", "n", "e", "enter", "t", "w", "o")
        assert pilot.app.screen.query_one(TextArea).text == "one\ntwo"
        await pilot.press("tab", "s")
        assert pilot.app.screen.query_one("#ask-secret", Input).password
        await pilot.press("ctrl+s")

    assert hold(Form("All", asked, yes="Do"), fill).answers == [{"kind": "b", "words": "one\ntwo", "secret": "s"}]
    assert pressed(Form("All", asked, yes="Do"), "escape") == [None]


def test_a_destructive_form_begins_on_cancel() -> None:
    assert pressed(Form("Ban?", [REASON], yes="Ban", destructive=True), "enter") == [None]


def test_an_attempt_that_fails_leaves_the_form_as_it_was() -> None:
    tried: list[dict[str, str]] = []

    def attempt(given: dict[str, str]) -> None:
        tried.append(given)
        if len(tried) == 1:
            raise ValueError("the name is taken")

    async def fill(pilot: Pilot[None]) -> None:
        await pilot.press("a", "enter")
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert str(pilot.app.screen.query_one("#wrong", Static).render()) == "ValueError: the name is taken"
        await pilot.press("b", "enter")
        await pilot.app.workers.wait_for_complete()

    app = hold(Form("Name", [Asked("name", "Name", is_required=True)], yes="Make", attempt=attempt), fill)
    assert tried == [{"name": "a"}, {"name": "ab"}]
    assert app.answers == [{"name": "ab"}]


def test_a_secret_is_shown_whole_and_copied_whole() -> None:
    secret = "sk-" + "abcdefghij" * 12

    async def look(pilot: Pilot[None]) -> None:
        shown = pilot.app.screen.query_one("#secret", Static)
        lines = [shown.render_line(y).text.strip() for y in range(shown.size.height)]
        assert "".join(lines) == secret
        assert is_seen(pilot, "#secret")
        assert is_seen(pilot, "#copy")
        await pilot.press("c")
        await pilot.press("enter")
        await pilot.press("escape")

    app = hold(Shown("A key", "This once.", secret), look)
    assert app.copied == [secret, secret]
    assert app.answers == [None]


def test_choose_narrows_by_what_is_typed() -> None:
    options = [(f"id{n}", f"Organisation {n} {'[b]' if n == 3 else ''}") for n in range(40)]
    assert pressed(Choose("Which?", options), "down", "down", "enter") == ["id2"]
    assert pressed(Choose("Which?", options, chosen="id7"), "enter") == ["id7"]
    assert pressed(Choose("Which?", options), "o", "r", "g", "space", "3", "1", "enter") == ["id31"]
    assert pressed(Choose("Which?", options), "z", "z", "enter", "escape") == [None]

    async def look(pilot: Pilot[None]) -> None:
        assert is_seen(pilot, "#cancel")
        assert is_seen(pilot, "#list")

    hold(Choose("Which?", options, text=LONG), look)


def test_progress_ends_with_what_the_job_made() -> None:
    def count(going: Going) -> int:
        for n in range(1000):
            going.tell(n, 1000, f"[{n}]")
        return 7

    async def wait(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()

    assert hold(Progress("Counting", count), wait).answers == [Outcome(value=7)]


def test_progress_is_cancelled_by_escape_and_tells_an_error() -> None:
    began = threading.Event()

    def endless(going: Going) -> None:
        while True:
            going.tell(1, 2, "half")
            began.set()

    async def cancel(pilot: Pilot[None]) -> None:
        await asyncio.to_thread(began.wait, 5)
        await pilot.pause()
        assert "50 %" in str(pilot.app.screen.query_one("#bar", Static).render())
        await pilot.press("escape")
        await pilot.app.workers.wait_for_complete()

    assert hold(Progress("For ever", endless), cancel).answers == [Outcome(is_cancelled=True)]

    def broken(going: Going) -> None:
        raise ValueError("no disk")

    async def wait(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()

    [outcome] = hold(Progress("Broken", broken), wait).answers
    assert str(outcome.error) == "no disk"


def test_a_gauge_is_full_at_the_end_and_honest_without_a_total() -> None:
    assert gauge(0, 10, 17) == "╌" * 10 + "    0 %"
    assert gauge(5, 10, 17) == "━" * 5 + "╌" * 5 + "   50 %"
    assert gauge(12, 10, 17) == "━" * 10 + "  100 %"
    assert gauge(0, None, 17) == "under way…"
    assert gauge(1234, None, 17) == "1,234 so far"
