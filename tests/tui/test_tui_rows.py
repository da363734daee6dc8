"""The table: any length, any words, any order; driven by keys and mouse in an application of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tui.widgets import cells
from tui.widgets.rows import KEPT, PAGE, Column, Line, Rows


class Shelf:
    """So many lines; those of `numbers` if given. It remembers what it was asked."""

    orders = (1,)

    def __init__(self, numbers: Sequence[int] | range) -> None:
        self.numbers = numbers
        self.asked: list[int] = []
        self.is_broken = False
        self.gate = threading.Event()
        self.gate.set()

    def count(self) -> int:
        self.gate.wait(5)  # no longer, should the test fail
        if self.is_broken:
            raise ValueError("the shelf fell")
        return len(self.numbers)

    def window(self, first: int, count: int) -> Sequence[Line]:
        self.gate.wait(5)  # no longer, should the test fail
        if self.is_broken:
            raise ValueError("the shelf fell")
        self.asked.append(first)
        return [Line(str(n), (f"book {n}", str(n % 7))) for n in self.numbers[first : first + count]]

    def place(self, key: str, near: int) -> int | None:
        return self.numbers.index(int(key)) if int(key) in self.numbers else None

    def ordered(self, column: int | None, descending: bool) -> "Shelf":
        return Shelf(self.numbers if column is None else sorted(self.numbers, reverse=descending))


class Table(App[None]):
    def __init__(self, columns: Sequence[Column] | None = None) -> None:
        super().__init__()
        self.rows = Rows(columns or [Column("Book", 20, grows=True), Column("Shelf", 6, align="right")], id="rows")
        self.said: list[str] = []
        self.broken: list[Exception] = []

    def compose(self) -> ComposeResult:
        yield self.rows

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        self.said.append(event.line.key)

    def on_rows_broken(self, event: Rows.Broken) -> None:
        self.broken.append(event.error)


def drive(app: Table, doing: Callable[[Pilot[None]], Awaitable[None]], size: tuple[int, int] = (40, 12)) -> None:
    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            app.rows.focus()
            await settle(pilot)
            await doing(pilot)

    asyncio.run(go())


async def settle(pilot: Pilot[None]) -> None:
    for _ in range(3):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def seen(app: Table) -> list[str]:
    return [app.rows.render_line(y).text.rstrip() for y in range(app.rows.size.height)]


def test_a_million_lines_are_walked_with_few_of_them_held() -> None:
    app, shelf = Table(), Shelf(range(1_000_000))

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(shelf)
        await settle(pilot)
        assert seen(app)[1] == f"book 0{'0':>33}"
        await pilot.press("end")
        await settle(pilot)
        assert app.rows.current == Line("999999", ("book 999999", "0"))
        assert "book 999999" in seen(app)[-1]
        for number in range(0, 1_000_000, 20_000):
            app.rows.move_to(number)
            await settle(pilot)
            assert app.rows.current is not None
            assert app.rows.current.key == str(number)
        assert len(app.rows._pages) <= KEPT + 1

    drive(app, walk)


def test_the_page_beside_is_there_before_it_is_looked_at() -> None:
    app, shelf = Table(), Shelf(range(5000))

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(shelf)
        app.rows.move_to(2 * PAGE + 50)
        await settle(pilot)
        assert {PAGE, 2 * PAGE, 3 * PAGE} <= set(shelf.asked)

    drive(app, walk)


def test_what_was_there_stays_while_it_is_asked_anew() -> None:
    app, shelf = Table(), Shelf(range(500))

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(shelf)
        await settle(pilot)
        before = seen(app)
        shelf.gate.clear()
        again = asyncio.create_task(app.rows.follow(shelf))
        await pilot.pause()
        assert seen(app) == before
        shelf.gate.set()
        await again
        assert seen(app) == before

    drive(app, walk)


def test_the_cursor_stays_on_its_key_and_its_line_where_it_is_seen() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(Shelf(range(1000)))
        app.rows.move_to(600)
        await settle(pilot)
        line = seen(app).index(f"book 600{'5':>31}")
        await app.rows.follow(Shelf(range(-300, 1000)))
        await settle(pilot)
        assert app.rows.current is not None
        assert app.rows.current.key == "600"
        assert seen(app)[line] == f"book 600{'5':>31}"
        await app.rows.follow(Shelf(range(10)))  # it is gone, and so is its number
        assert app.rows.cursor == 9

    drive(app, walk)


def test_a_tail_stays_on_the_first_line_and_only_there() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        app.rows.tails = True
        await app.rows.follow(Shelf(range(10)))
        await app.rows.follow(Shelf(range(-5, 10)))
        assert app.rows.current is not None
        assert app.rows.current.key == "-5"
        await pilot.press("down")
        await app.rows.follow(Shelf(range(-9, 10)))
        assert app.rows.current is not None
        assert app.rows.current.key == "-4"

    drive(app, walk)


def test_a_source_that_raises_is_told_once_and_loses_nothing() -> None:
    app, shelf = Table(), Shelf(range(2000))

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(shelf)
        shelf.is_broken = True
        await app.rows.follow(shelf)
        await settle(pilot)
        assert [str(one) for one in app.broken] == ["the shelf fell"]
        assert "book 0" in seen(app)[1]
        await pilot.press("end")
        await settle(pilot)
        told = len(app.broken)
        assert told >= 2
        await pilot.press("up", "down")
        await settle(pilot)
        assert len(app.broken) == told
        shelf.is_broken = False
        await app.rows.follow(shelf)
        await settle(pilot)
        assert app.rows.current is not None

    drive(app, walk)


def test_words_of_others_neither_style_nor_steer_nor_turn_the_line() -> None:
    app = Table()
    nasty = "[red]x[/red]\x1b]0;title\x07\u202egnp.\u2066\n\ttab\x9b31m"

    async def walk(pilot: Pilot[None]) -> None:
        await asyncio.sleep(0)
        app.rows.show([Line("1", (nasty, "1")), Line("2", (Text(nasty, style="bold"), "2"))])
        plain, styled = seen(app)[1:3]
        for line in (plain, styled):
            assert not set(line) & set("\x1b\x07\u202e\u2066\n\t\x9b")
            assert line.startswith("[red]x[/red]")
        assert all(app.rows.render_line(y).cell_length == 40 for y in range(12))

    drive(app, walk)


def test_wide_letters_are_never_cut_in_two() -> None:
    app = Table([Column("Name", 5), Column("Right", 6, align="right"), Column("End", 3)])

    async def walk(pilot: Pilot[None]) -> None:
        await asyncio.sleep(0)
        app.rows.show([Line("1", ("日本語の本", "日本", "end")), Line("2", (Text("日本語の本"), Text("é́x"), "end"))])
        assert seen(app)[1] == "日本…    日本  end"
        assert seen(app)[2].endswith("end")
        assert app.rows.render_line(2).cell_length == 40

    drive(app, walk)


def test_columns_without_room_are_left_out_and_nothing_runs_over() -> None:
    app = Table([Column("A", 10), Column("B", 10, least=60), Column("C", 30), Column("D", 30)])

    async def walk(pilot: Pilot[None]) -> None:
        await asyncio.sleep(0)
        app.rows.show([Line("1", ("a", "b", "c" * 40, "d"))])
        assert seen(app)[0].split() == ["A", "C"]
        assert all(app.rows.render_line(y).cell_length == 40 for y in range(3))
        await pilot.resize_terminal(120, 12)
        await settle(pilot)
        assert seen(app)[0].split() == ["A", "B", "C", "D"]
        assert all(app.rows.render_line(y).cell_length == 120 for y in range(3))

    drive(app, walk)


def test_a_click_moves_a_second_one_opens_and_the_wheel_only_looks() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(Shelf(range(300)))
        await pilot.click(Rows, offset=(2, 4))
        await settle(pilot)
        assert app.rows.cursor == 3
        assert app.said == []
        await pilot.click(Rows, offset=(2, 4))
        await settle(pilot)
        assert app.said == ["3"]
        for _ in range(5):
            app.rows.scroll_down(animate=False)
        await settle(pilot)
        assert app.rows.cursor == 3
        assert "book 5" in seen(app)[1]

    drive(app, walk)


def test_a_list_is_sorted_by_its_head_and_by_keys() -> None:
    app = Table([Column("Name", 10, sorts=True), Column("Age", 10, sorts=True), Column("Note", 5)])
    lines = [
        Line("a", ("bob", "3 min", "x"), values=("bob", 3, "")),
        Line("b", ("Ann", "2 d", "y"), values=("Ann", 2880, "")),
        Line("c", ("cid", "—", "z"), values=("cid", None, "")),
    ]

    async def walk(pilot: Pilot[None]) -> None:
        app.rows.show(lines)
        await pilot.press("down")  # on b
        await pilot.click(Rows, offset=(13, 0))
        await settle(pilot)
        assert seen(app)[0].split() == ["Name", "Age", "▲", "Note"]
        assert [line.split()[0] for line in seen(app)[1:4]] == ["bob", "Ann", "cid"]
        await pilot.press("less_than_sign")
        assert [line.split()[0] for line in seen(app)[1:4]] == ["cid", "bob", "Ann"]
        assert app.rows.current is not None
        assert app.rows.current.key == "b"
        await pilot.click(Rows, offset=(25, 0))  # a column that does not sort
        assert app.rows.sorted_by == (0, True)
        await pilot.press("less_than_sign", "less_than_sign")
        assert app.rows.sorted_by is None
        assert [line.split()[0] for line in seen(app)[1:4]] == ["bob", "Ann", "cid"]

    drive(app, walk)


def test_a_source_is_sorted_where_it_can() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(Shelf(range(300)))
        await pilot.press("less_than_sign")
        await settle(pilot)
        assert app.rows.line_at(0) == Line("299", ("book 299", "5"))
        app.rows.sort(0)  # it has no such order
        assert app.rows.sorted_by == (1, True)
        assert [one.key for one in app.rows.window(0, 2)] == ["299", "298"]

    drive(app, walk)


def test_a_short_list_keeps_its_cursor_by_key_and_an_empty_one_says_so() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        app.rows.show([Line(key, (key,)) for key in "abc"])
        await pilot.press("end")
        app.rows.show([Line(key, (key,)) for key in "zabcd"])
        assert app.rows.current is not None
        assert app.rows.current.key == "c"
        app.rows.show([])
        assert seen(app)[1] == "Nothing here yet."
        await pilot.press("down", "end", "enter", "pagedown")
        assert app.rows.current is None
        assert app.said == []

    drive(app, walk)


def test_cells_are_clean_and_of_one_line() -> None:
    assert cells.clean("plain [b]") == "plain [b]"
    assert cells.clean("a\r\nb\tc") == "a b c"
    assert cells.clean("\u202eabc\u2069\u200b\ufeff") == "abc"
    assert cells.clean("\ud800\x00") == "\ufffd\ufffd"
    assert cells.clean("❤\ufe0f 👩\u200d👧 é") == "❤ 👩👧 é"
    assert len(cells.clean("x" * 10_000)) == 4097
    assert cells.clean_lines("a\x1b\n\tb") == "a\ufffd\n    b"
    assert (cells.fit("日本語", 4), cells.fit("ab", 4, to_right=True), cells.fit("ab", 0)) == ("日 …", "  ab", "")


def test_another_theme_draws_every_line_anew() -> None:
    app = Table()

    async def walk(pilot: Pilot[None]) -> None:
        app.rows.show([Line("1", ("a", "b")), Line("2", ("c", "d"), "bad")])
        await settle(pilot)
        before = [[segment.style for segment in app.rows.render_line(y)] for y in range(4)]
        app.theme = "textual-light"
        await settle(pilot)
        after = [[segment.style for segment in app.rows.render_line(y)] for y in range(4)]
        assert all(one != other for one, other in zip(before, after, strict=True))

    drive(app, walk)


def test_what_comes_last_may_come_later() -> None:
    app, shelf = Table(), Shelf(list(range(250)))

    async def walk(pilot: Pilot[None]) -> None:
        await app.rows.follow(shelf)
        await pilot.press("end")
        await settle(pilot)
        shelf.numbers = range(900)
        app.rows.grow(900)
        await settle(pilot)
        assert app.rows.current == Line("249", ("book 249", "4"))
        await pilot.press("down", "down")
        await settle(pilot)
        assert app.rows.current == Line("251", ("book 251", "6"))

    drive(app, walk)
