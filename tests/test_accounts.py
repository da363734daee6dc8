"""Organisations, keys, scopes, toggles, custom categories: as rows, on a real file."""

import threading
from collections.abc import Callable

import msgspec
import pytest

from appliance import clock
from appliance.accounts import custom, keys, organisations, scopes, toggles
from appliance.accounts.organisations import Standing
from appliance.database import Database, Error
from appliance.errors import AccountTerminated, Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from appliance.house import House, digest
from appliance.settings import Inference, Settings
from tests.cast import Person, enrol

HOUR = 3_600_000


def recognise(house: House, raw: str) -> keys.Caller:
    return keys.recognise(house.db.reader(), house.pepper, raw)


def audit_lines(house: House) -> list[tuple[str, str]]:
    return [(row["action"], row["subject"]) for row in house.db.reader().execute("SELECT * FROM audit ORDER BY id")]


@pytest.mark.parametrize(
    ("how", "start"),
    [
        ({}, "stars_"),
        ({"surface": "omnimod"}, "omad_live_"),
        ({"surface": "omnimod", "environment": "test"}, "omad_test_"),
    ],
)
def test_a_key_has_the_form_of_its_surface_and_only_its_prefix_is_kept(
    house: House, how: dict[str, str], start: str
) -> None:
    person = enrol(house, "A", "k", **how)
    assert person.key.startswith(start)
    assert len(person.key) == len(start) + 40
    row = house.db.reader().execute("SELECT * FROM api_key").fetchone()
    assert row["prefix"] == person.key[: len(start) + 6]
    assert row["digest"] == digest(house.pepper, person.key)
    assert person.key not in str(tuple(row))


def test_a_key_is_recognised_with_the_default_scopes_of_the_contract(house: House, alice: Person) -> None:
    caller = recognise(house, alice.key)
    assert (caller.org_id, caller.key_id, caller.key_name) == (alice.org_id, alice.key_id, "alice")
    assert caller.scopes == {"moderate:prompt", "moderate:image", "moderate:video", "job:read", "usage:read"}


@pytest.mark.parametrize("raw", ["", "stars_", "stars_" + "a" * 39, "sk_" + "a" * 40, "stars_" + "é" * 40, "x" * 9999])
def test_what_has_not_the_form_of_a_key_is_refused(house: House, raw: str) -> None:
    with pytest.raises(Unauthorized, match="Invalid API key"):
        recognise(house, raw)


def test_an_unknown_key_is_refused_in_the_same_words(house: House) -> None:
    with pytest.raises(Unauthorized, match=r"^Invalid API key$"):
        recognise(house, "stars_" + "a" * 40)


def test_a_key_of_another_server_is_unknown_here(house: House, alice: Person) -> None:
    with pytest.raises(Unauthorized, match=r"^Invalid API key$"):
        keys.recognise(house.db.reader(), b"another pepper of thirty-two bytes", alice.key)


def test_a_revocation_is_seen_at_once_by_another_process(house: House, alice: Person) -> None:
    other = Database(house.settings.database)  # a connection of its own, as another process has
    assert keys.recognise(other.reader(), house.pepper, alice.key)
    house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test", reason="lost"))
    with pytest.raises(Unauthorized, match=r"^API key has been revoked$"):
        keys.recognise(other.reader(), house.pepper, alice.key)
    other.close()
    assert ("key.revoked", alice.key[:12]) in audit_lines(house)


def test_revoking_twice_leaves_one_audit_line(house: House, alice: Person) -> None:
    for _ in range(2):
        house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    assert len(audit_lines(house)) == 1


def test_an_expired_key_is_refused(house: House) -> None:
    person = enrol(house, "A", "short", expires_at=clock.now_ms() - 1)
    with pytest.raises(Unauthorized, match=r"^API key has expired$"):
        recognise(house, person.key)


@pytest.mark.parametrize(
    ("standing", "refusal"), [(Standing.TERMINATED, AccountTerminated), (Standing.DISABLED, Forbidden)]
)
def test_a_closed_account_is_refused_with_any_key_until_it_is_opened_again(
    house: House, alice: Person, bob: Person, standing: Standing, refusal: type[Exception]
) -> None:
    def put(status: Standing) -> None:
        house.db.write(
            lambda conn: organisations.set_status(conn, alice.org_id, status, actor="operator:test", reason="why")
        )

    put(standing)
    for person in (alice, bob):
        with pytest.raises(refusal):
            recognise(house, person.key)
    put(Standing.ACTIVE)
    assert recognise(house, alice.key)
    assert [action for action, _ in audit_lines(house)] == [f"organisation.{standing}", "organisation.active"]


def test_a_rotated_key_keeps_name_and_scopes_and_the_old_one_dies(house: House) -> None:
    old = enrol(house, "A", "prod", granted=("job:read",))
    new, raw = house.db.write(lambda conn: keys.rotate(conn, house.pepper, old.key_id, actor="operator:test"))
    assert recognise(house, raw).scopes == {"job:read"}
    assert (new.name, new.rotated_from) == ("prod", old.key_id)
    with pytest.raises(Unauthorized, match="revoked"):
        recognise(house, old.key)


def test_with_grace_the_old_key_works_until_it_is_over(house: House, alice: Person) -> None:
    house.db.write(lambda conn: keys.rotate(conn, house.pepper, alice.key_id, actor="operator:test", grace_s=60))
    assert recognise(house, alice.key)
    old = keys.find(house.db.reader(), alice.key_id)
    assert old.expires_at is not None
    assert abs(old.expires_at - clock.now_ms() - 60_000) < 10_000


def test_grace_does_not_lengthen_a_life_that_ends_sooner(house: House) -> None:
    soon = clock.now_ms() + 5_000
    old = enrol(house, "A", "k", expires_at=soon)
    house.db.write(lambda conn: keys.rotate(conn, house.pepper, old.key_id, actor="operator:test", grace_s=3600))
    assert keys.find(house.db.reader(), old.key_id).expires_at == soon


def test_a_dead_key_is_not_rotated(house: House, alice: Person) -> None:
    house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    with pytest.raises(InvalidRequest, match="create a new key"):
        house.db.write(lambda conn: keys.rotate(conn, house.pepper, alice.key_id, actor="operator:test"))


def test_a_key_is_found_by_id_prefix_or_name_when_only_one_answers(house: House, alice: Person) -> None:
    conn = house.db.reader()
    assert {keys.find(conn, one).id for one in (alice.key_id, alice.key[:12], "alice")} == {alice.key_id}
    enrol(house, "C", "alice")
    with pytest.raises(InvalidRequest, match="2 keys answer"):
        keys.find(conn, "alice")
    with pytest.raises(NotFound):
        keys.find(conn, "nobody")


def test_scopes_are_checked_and_the_later_generations_alias_is_read() -> None:
    assert scopes.parse(["job:read", "moderate:text"]) == ("moderate:prompt", "job:read")
    with pytest.raises(InvalidRequest, match="Unknown scope 'moderate:everything'"):
        scopes.parse(["moderate:everything"])


def test_money_and_administration_are_in_no_keys_default() -> None:
    for granted in scopes.DEFAULT.values():
        assert not {"billing:write", "admin:config", "webhook:manage", "account:config"} & set(granted)
    assert scopes.parse(scopes.ALL) == scopes.ALL


def test_two_threads_that_make_the_same_organisation_get_the_same_one(house: House) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(house.db.write(lambda conn: organisations.get_or_create(conn, "X").id))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1


def test_an_organisations_name_is_its_own(house: House) -> None:
    house.db.write(lambda conn: organisations.create(conn, "X"))
    with pytest.raises(Conflict):
        house.db.write(lambda conn: organisations.create(conn, " X "))
    with pytest.raises(NotFound, match="there are: X"):
        organisations.named(house.db.reader(), "Y")


def test_only_checks_that_are_off_are_kept_and_an_empty_body_turns_all_on(house: House, alice: Person) -> None:
    def put(body: object) -> dict[str, bool]:
        house.db.write(lambda conn: toggles.replace(conn, alice.org_id, toggles.parse(body), actor="key:test"))
        return toggles.off(house.db.reader(), alice.org_id)

    assert put({"nsfw": False, "text": True}) == {"nsfw": False}
    assert put({"text": False}) == {"text": False}
    assert toggles.on(house.db.reader(), alice.org_id) == ["nsfw", "ai_adult_general", "underage"]
    assert put({}) == {}


@pytest.mark.parametrize("body", [None, [], "x", 1, {"nfsw": False}, {"nsfw": 0}, {"nsfw": None}, {"nsfw": "false"}])
def test_a_body_that_is_no_object_of_checks_and_booleans_is_refused(body: object) -> None:
    with pytest.raises(InvalidRequest):
        toggles.parse(body)


def test_turning_underage_off_leaves_one_audit_line(house: House, alice: Person) -> None:
    for body in ({"underage": False}, {"underage": False, "nsfw": False}, {"nsfw": False}):
        house.db.write(lambda conn, off=body: toggles.replace(conn, alice.org_id, off, actor="key:test"))
    assert audit_lines(house) == [("checks.underage_off", alice.org_id)]


def test_the_audit_log_is_only_added_to(house: House, alice: Person) -> None:
    house.db.write(lambda conn: keys.revoke(conn, alice.key_id, actor="operator:test"))
    with pytest.raises(Error, match="only ever added to"):
        house.db.write(lambda conn: conn.execute("UPDATE audit SET actor = 'nobody'"))


def add(house: House, settings: Settings, org_id: str, slug: str = "dogs") -> Callable[[], custom.CustomCategory]:
    return lambda: house.db.write(
        lambda conn: custom.add(conn, settings, org_id, slug, "Dogs", "Is there a dog?", actor="operator:test")
    )


@pytest.fixture
def judging(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, inference=Inference(vision_judge="qwen"))


def test_without_a_vision_judge_a_custom_category_is_refused_saying_what_to_install(
    house: House, alice: Person
) -> None:
    with pytest.raises(InvalidRequest, match="customhouse models fetch NAME"):
        add(house, house.settings, alice.org_id)()


def test_a_custom_category_is_asked_until_it_is_removed(house: House, judging: Settings, alice: Person) -> None:
    add(house, judging, alice.org_id)()
    assert [one.question for one in custom.asked(house.db.reader(), alice.org_id, "image")] == ["Is there a dog?"]
    house.db.write(lambda conn: custom.remove(conn, alice.org_id, "dogs", actor="operator:test"))
    assert custom.asked(house.db.reader(), alice.org_id, "image") == []
    with pytest.raises(NotFound):
        house.db.write(lambda conn: custom.remove(conn, alice.org_id, "dogs", actor="operator:test"))


def test_another_organisation_neither_sees_nor_removes_it(
    house: House, judging: Settings, alice: Person, charlie: Person
) -> None:
    add(house, judging, alice.org_id)()
    assert custom.every(house.db.reader(), charlie.org_id) == []
    with pytest.raises(NotFound):
        house.db.write(lambda conn: custom.remove(conn, charlie.org_id, "dogs", actor="operator:test"))


@pytest.mark.parametrize("slug", ["", "Dogs", "1dog", "a-b", "nsfw", "text", "custom", "a" * 41])
def test_a_slug_that_is_no_slug_is_refused(house: House, judging: Settings, alice: Person, slug: str) -> None:
    with pytest.raises(InvalidRequest, match="slug"):
        add(house, judging, alice.org_id, slug)()


def test_there_are_at_most_ten_and_no_two_of_a_slug(house: House, judging: Settings, alice: Person) -> None:
    for index in range(custom.LIMIT):
        add(house, judging, alice.org_id, f"slug_{index}")()
    with pytest.raises(Conflict):
        add(house, judging, alice.org_id, "slug_1")()
    with pytest.raises(InvalidRequest, match="at most 10"):
        add(house, judging, alice.org_id, "one_more")()
