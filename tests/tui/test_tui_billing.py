"""Usage and billing: seen, and every change asked about first."""

import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Static, TabbedContent

from appliance.accounts import organisations
from appliance.billing import alerts, checkout, ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.settings import Billing as Set
from appliance.settings import Settings
from tests import made
from tests.fakestripe.server import Served
from tests.paying import Till, faking, leading_to
from tests.tui.conftest import NOON, SMALL, WIDE, Doing, Shoot, drive, settle
from tui.backend import billing
from tui.backend.billing import Page
from tui.backend.desk import Access, Desk
from tui.screens.billing import Billing, Link
from tui.widgets.code import Code, modules
from tui.widgets.rows import Rows

DAY = 86_400_000
USD = 1_000_000
ACME, BIRCH, CEDAR = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))


def fill(conn: Connection) -> None:
    """Three organisations, a month of jobs, a ledger and an alert; the same wherever it is made."""
    for org_id, name, method in ((ACME, "acme", "per_job"), (BIRCH, "birch", "gpu_time"), (CEDAR, "cedar", None)):
        organisations.create(conn, name)
        conn.execute(
            "UPDATE organisation SET id = ?, created_at = ?, charge_method = ? WHERE name = ?",
            (org_id, NOON - 90 * DAY, method, name),
        )
    for number, org_id in enumerate((ACME, BIRCH)):
        made.insert_into(conn, made.random_jobs(org_id, 120, NOON - 29 * DAY, NOON, seed=number))
    for number in range(60):
        job = f"10000000-0000-4000-8000-{number:012d}"
        _post(conn, ACME, EntryType.CHARGE, -800 * (number + 1), ("job", job), "Prompt moderation", job, number)
    _post(conn, ACME, EntryType.CREDIT, 25 * USD, ("manual", "1"), "Bank transfer 4711", None, 61)
    _post(conn, BIRCH, EntryType.CHARGE, -2 * USD, ("gpu", "2"), "Video moderation, 90 s of model time", None, 62)
    conn.execute("UPDATE usage SET prompt_micros = prompt_jobs * 800, image_micros = image_jobs * 1500")
    for number in range(29):
        conn.execute(
            "INSERT INTO moderation_use (org_id, day, requests, allowed, flagged, blocked, cache_hits, "
            "text_llm_credits) VALUES (?, date(?, 'unixepoch'), ?, ?, 0, 0, 0, 0)",
            (ACME, (NOON - number * DAY) // 1000, number * 7 % 40, number * 7 % 40),
        )
    alerts.raise_(
        conn, "credit_short", "ch_1", "A payment of $25.00 was disputed; its credit was taken back", NOON - DAY, ACME
    )


def _post(
    conn: Connection,
    org: str,
    type: EntryType,
    micros: int,
    source: tuple[str, str],
    said: str,
    job: str | None,
    at: int,
) -> None:
    when = NOON - 10 * DAY + at * 3_600_000
    ledger.post(conn, org, type, micros, source=source, description=said, now=when, job_id=job)


@pytest.fixture
def full(house: House, desk: Desk) -> Desk:
    house.db.write(fill)
    return desk


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with faking(monkeypatch) as served:
        yield served


@pytest.fixture
def paying(house: House, settings: Settings, served: Served) -> Iterator[Desk]:
    """A desk whose Stripe is the fake, at the fake's time."""
    house.db.write(fill)
    desk = Desk(leading_to(settings, served), Access("operator:ada", True), now=lambda: served.account.now_ms())
    yield desk
    desk.close()


def said(pilot: Pilot[None]) -> str:
    return "\n".join(one.message for one in pilot.app._notifications)


def audited(house: House, action: str) -> list[dict[str, object]]:
    return [dict(row) for row in house.db.reader().execute("SELECT * FROM audit WHERE action = ?", (action,))]


def typed(*fields: str) -> Doing:
    """These into the fields of the form, one after the other, and accepted."""

    async def do(pilot: Pilot[None]) -> None:
        for number, value in enumerate(fields):
            if number:
                await pilot.press("tab")
            await pilot.press(*["minus" if one == "-" else "space" if one == " " else one for one in value])
        await pilot.press("enter")
        await settle(pilot)

    return do


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
def test_what_was_used(full: Desk, shoot: Shoot, size: tuple[int, int], where: str, theme: str) -> None:
    shoot(full, "billing", f"billing-usage-{where}-{theme.removeprefix('textual-')}", size=size, theme=theme)


def test_what_each_has_left(full: Desk, shoot: Shoot) -> None:
    shoot(full, "billing", "billing-accounts-small", press=["2", "down"])
    shoot(full, "billing", "billing-accounts-wide-light", press=["2"], size=WIDE, theme="textual-light")


def test_the_ledger(full: Desk, shoot: Shoot) -> None:
    def plain(conn: Connection) -> None:
        conn.execute("DROP TRIGGER ledger_not_changed")
        conn.execute("UPDATE ledger SET id = printf('20000000-0000-4000-8000-%012d', seq)")

    full.house.db.write(plain)
    shoot(full, "billing", "billing-ledger-small", press=["3", "down"])
    shoot(full, "billing", "billing-ledger-wide", press=["3", "f", "f"], size=WIDE)


def test_a_box_with_nothing_in_it(desk: Desk, shoot: Shoot) -> None:
    shoot(desk, "billing", "billing-empty-usage")
    shoot(desk, "billing", "billing-empty-accounts", press=["2"])
    shoot(desk, "billing", "billing-empty-ledger", press=["3"])


def test_stripe_off(full: Desk, shoot: Shoot) -> None:
    shoot(full, "billing", "billing-stripe-off", press=["4"])


def test_stripe_down(house: House, settings: Settings, shoot: Shoot) -> None:
    """As the last round left it: the sync failed an hour ago."""
    key = settings.home / "stripe-key"
    key.write_text("rk_test_51Qn2eLkdIwHu7ix\n")
    key.chmod(0o600)
    down = Set(stripe_key_file=str(key), stripe_address="https://stripe.example", stripe_timeout_s=1.0)
    house.db.write(fill)
    house.db.write(
        lambda conn: conn.execute(
            "INSERT INTO stripe_sync (is_live, cursor, cursor_at, looked_back_at, last_ok_at, last_error, "
            "last_error_at) VALUES (0, 'evt_1', ?, 0, ?, 'Stripe cannot be reached: it does not answer', ?)",
            ((NOON - 2 * DAY) // 1000, NOON - DAY, NOON - 3_600_000),
        )
    )
    desk = Desk(replace(settings, billing=down), Access("operator:ada", True), now=lambda: NOON)
    shoot(desk, "billing", "billing-stripe-down", press=["4"])
    shoot(desk, "billing", "billing-stripe-down-wide-light", press=["4"], size=WIDE, theme="textual-light")
    desk.close()


def test_a_source_that_is_broken(full: Desk, shoot: Shoot) -> None:
    full.house.db.write(lambda conn: conn.execute("DROP TABLE moderation_use"))
    shoot(full, "billing", "billing-failing")


def test_the_question_before_credit(full: Desk, shoot: Shoot) -> None:
    shoot(full, "billing", "billing-credit", press=["2", "c"])


URL = "https://checkout.stripe.com/c/pay/cs_test_a1b2c3d4e5f6"


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize(("size", "where"), [(SMALL, "small"), (WIDE, "wide")])
def test_the_link_as_a_code(full: Desk, shoot: Shoot, size: tuple[int, int], where: str, theme: str) -> None:
    async def link(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(Link("acme pays $25", Page("t", "s", URL, NOON + DAY)))

    shoot(full, "billing", f"billing-code-{where}-{theme.removeprefix('textual-')}", doing=link, size=size, theme=theme)


def test_a_link_too_long_for_the_terminal_says_how_much_it_needs(full: Desk, shoot: Shoot) -> None:
    async def link(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(Link("acme pays $25", Page("t", "s", f"{URL}#{'fid' * 120}", NOON + DAY)))

    shoot(full, "billing", "billing-code-too-long", doing=link)


# --- the code --------------------------------------------------------------------------------------------------------


def read(pilot: Pilot[None]) -> str:
    """What a camera reads from the cells: each half block as two squares of pixels, on the screen's own ground."""
    code = pilot.app.screen.query_one(Code)
    rows: list[list[int]] = []
    for y in range(code.size.height):
        upper: list[int] = []
        lower: list[int] = []
        for segment in code.render_line(y):
            style = segment.style
            assert style is not None
            assert style.color is not None
            assert style.bgcolor is not None
            ink, paper = style.color.get_truecolor().red, style.bgcolor.get_truecolor().red
            upper += [ink if letter in "▀█" else paper for letter in segment.text]
            lower += [ink if letter in "▄█" else paper for letter in segment.text]
        rows += [upper, lower]
    drawn = np.kron(np.array(rows, np.uint8), np.ones((8, 8), np.uint8))
    ground = 18 if "dark" in pilot.app.theme else 240
    seen = cv2.copyMakeBorder(drawn, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(ground,))
    return cv2.QRCodeDetector().detectAndDecode(seen)[0]


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
@pytest.mark.parametrize(
    ("size", "url"), [(SMALL, URL), (SMALL, "https://pay.example/" + "x" * 60), (WIDE, f"{URL}#{'fid' * 120}")]
)
def test_a_code_can_be_read_from_its_cells(full: Desk, size: tuple[int, int], url: str, theme: str) -> None:
    async def look(pilot: Pilot[None]) -> None:
        pilot.app.push_screen(Link("acme pays $25", Page("t", "s", url, NOON + DAY)))
        await settle(pilot)
        code = pilot.app.screen.query_one(Code)
        assert code.region.bottom <= size[1]
        assert code.region.right <= size[0]
        assert read(pilot) == url
        await pilot.press("c")
        assert pilot.app.clipboard == url

    drive(full, "billing", look, size=size, theme=theme)


# --- credit ----------------------------------------------------------------------------------------------------------


def test_credit_is_given_with_its_reason(full: Desk, house: House) -> None:
    async def credit(pilot: Pilot[None]) -> None:
        await pilot.press("2", "c")
        await settle(pilot)
        await typed("12.5", "Invoice 7")(pilot)
        assert "$12.50 credited" in said(pilot)
        assert "$36.036000" in str(pilot.app.screen.query_one("#balances", Rows).line_at(0))

    drive(full, "billing", credit)
    [line] = audited(house, "billing.credited")
    assert (line["actor"], line["reason"]) == (full.actor, "Invoice 7")
    assert json.loads(str(line["detail"]))["amount_micros"] == 12_500_000


def test_taking_back_is_asked_about_once_more(full: Desk, house: House) -> None:
    async def credit(pilot: Pilot[None]) -> None:
        await pilot.press("2", "c")
        await settle(pilot)
        await typed("-5", "Typo")(pilot)
        assert pilot.app.focused is not None
        assert pilot.app.focused.id == "cancel"
        await pilot.press("enter")
        await settle(pilot)
        assert audited(house, "billing.corrected") == []
        await pilot.press("c")
        await settle(pilot)
        await typed("-5", "Typo")(pilot)
        await pilot.click("#yes")
        await settle(pilot)

    drive(full, "billing", credit)
    [line] = audited(house, "billing.corrected")
    assert json.loads(str(line["detail"]))["amount_micros"] == -5_000_000


def test_an_amount_that_is_none_stays_in_the_form(full: Desk) -> None:
    async def credit(pilot: Pilot[None]) -> None:
        await pilot.press("2", "c")
        await settle(pilot)
        await typed("much", "why")(pilot)
        assert "must be a number" in str(pilot.app.screen.query_one("#wrong", Static).content)
        await pilot.press("escape")
        await settle(pilot)

    drive(full, "billing", credit)


def test_who_may_only_look_credits_nothing(house: House, settings: Settings) -> None:
    house.db.write(fill)
    desk = Desk(settings, Access("operator:bob", False, "bob is not in the group"), now=lambda: NOON)

    async def credit(pilot: Pilot[None]) -> None:
        await pilot.press("2", "c")
        await settle(pilot)
        await typed("5", "why")(pilot)
        assert "bob is not in the group" in said(pilot)

    drive(desk, "billing", credit)
    desk.close()
    assert audited(house, "billing.credited") == []


# --- Stripe ----------------------------------------------------------------------------------------------------------


def test_sync_now_reads_what_was_paid(paying: Desk, served: Served) -> None:
    till = Till(paying.house, served)
    wish = checkout.parse({"amount_usd": 25})
    page = checkout.open_(paying.house.db, till.api, paying.settings.billing, ACME, "t1", wish, till.now())
    till.account.pay(page.session_id)

    async def sync(pilot: Pilot[None]) -> None:
        await pilot.press("4", "s")
        await settle(pilot)
        assert "In order; 0 payments awaited" in said(pilot)

    before = till.balance(ACME)
    drive(paying, "billing", sync)
    assert till.balance(ACME) == before + 25
    till.close()


def test_sync_without_stripe_says_so(full: Desk) -> None:
    async def sync(pilot: Pilot[None]) -> None:
        await pilot.press("4", "s")
        await settle(pilot)
        assert "not set up here" in said(pilot)

    drive(full, "billing", sync)


def test_sync_with_stripe_down_says_so_and_the_screen_stays(house: House, paying: Desk, served: Served) -> None:
    nowhere = replace(paying.settings.billing, stripe_address="http://127.0.0.1:9", stripe_timeout_s=1.0)
    down = Desk(replace(paying.settings, billing=nowhere), Access("operator:ada", True), now=paying.now)

    async def sync(pilot: Pilot[None]) -> None:
        await pilot.press("4", "s")
        await settle(pilot)
        await settle(pilot)
        assert "Stripe" in said(pilot)
        assert billing.stripe(down).is_failing

    drive(down, "billing", sync)
    down.close()


def test_a_top_up_link_is_made_shown_and_audited(paying: Desk) -> None:
    async def link(pilot: Pilot[None]) -> None:
        await pilot.press("2", "t")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Link)
        await pilot.press("c", "escape")
        await settle(pilot)
        assert pilot.app.clipboard.startswith("http")

    drive(paying, "billing", link)
    [line] = audited(paying.house, "topup.offered")
    assert (line["actor"], line["org_id"]) == ("operator:ada", ACME)


def test_automatic_top_up_is_stopped_with_a_reason(paying: Desk, served: Served) -> None:
    till = Till(paying.house, served)
    till.automatic(ACME)
    till.close()

    async def stop(pilot: Pilot[None]) -> None:
        await pilot.press("2", "D")
        await settle(pilot)
        assert pilot.app.focused is not None
        assert pilot.app.focused.id == "cancel"
        await pilot.press("shift+tab")
        await typed("They asked")(pilot)
        assert "automatic top-up is off" in said(pilot)

    drive(paying, "billing", stop)
    [line] = audited(paying.house, "auto_topup.disabled")
    assert (line["actor"], line["reason"]) == ("operator:ada", "They asked")


def test_an_alert_is_resolved_with_a_reason(full: Desk, house: House) -> None:
    async def resolve(pilot: Pilot[None]) -> None:
        await pilot.press("4", "x")
        await settle(pilot)
        await pilot.press("shift+tab")
        await typed("Called them")(pilot)
        assert pilot.app.screen.query_one("#alerts", Rows).row_count == 0

    drive(full, "billing", resolve)
    [line] = audited(house, "alert.resolved")
    assert (line["actor"], line["reason"]) == (full.actor, "Called them")


def test_enter_on_an_alert_shows_all_of_it(full: Desk, shoot: Shoot) -> None:
    shoot(full, "billing", "billing-alert", press=["4", "enter"])


# --- looking ---------------------------------------------------------------------------------------------------------


def test_enter_on_an_account_shows_its_entries(full: Desk) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await pilot.press("2", "down", "enter")
        await settle(pilot)
        assert pilot.app.screen.query_one(TabbedContent).active == "ledger"
        assert pilot.app.screen.query_one("#entries", Rows).row_count == 1

    drive(full, "billing", look)


def test_the_proof_is_said(full: Desk) -> None:
    async def prove(pilot: Pilot[None]) -> None:
        await pilot.press("3", "l")
        await settle(pilot)
        assert "NOT WHOLE" in str(pilot.app.screen.query_one("#title").render())  # the charges here are of no jobs
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Billing)

    drive(full, "billing", prove)


def test_the_periods_go_round_and_add_up(full: Desk) -> None:
    for period in billing.PERIODS:
        found = billing.used_in(full, None, period)
        alone = [billing.used_in(full, org, period).buckets for org in (ACME, BIRCH, CEDAR)]
        assert [one.jobs for one in found.buckets] == [
            sum(one.jobs for one in together) for together in zip(*alone, strict=True)
        ]
    assert len(billing.used_in(full, None, "year").buckets) == 12
    assert sum(one.jobs for one in billing.used_in(full, None, "year").buckets) == 240
    assert sum(billing.used_in(full, ACME, "year").requests or []) == sum(n * 7 % 40 for n in range(29))


def test_a_code_without_colours_is_one_too() -> None:
    rows = modules(URL)
    code = Code(URL)
    assert code.fit(80, 24)
    letters = ["".join(segment.text for segment in code.render_line(y)) for y in range(-(-len(rows) // 2))]
    assert [[letter in " ▄" for letter in line] for line in letters] == rows[::2]
