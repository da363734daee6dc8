"""Submissions over HTTP: every way to write one, and every way to write it wrong. Nothing of a refusal is kept."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import database
from appliance.api import form
from appliance.database import Connection
from appliance.house import House
from appliance.settings import Media, Server, Settings, Uploads
from tests import recorded
from tests.cast import UNHURRIED, Person, enrol
from tests.recorded import pretty

Client = TestClient[Any]

PUBLIC = "http://93.184.216.34/photo.jpg"
"""An address that needs no name server to be known as public; nothing here connects to it."""

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\x00" * 40

IMAGE, VIDEO, PROMPT = "/api/v1/moderate/image", "/api/v1/moderate/video", "/api/v1/moderate/prompt"


def refusal(response: httpx.Response, status: int, code: str, message: str) -> None:
    """The whole envelope, and that the answer names its request."""
    body = response.json()
    assert (response.status_code, body["error"], body["statusCode"]) == (status, code, status)
    assert re.search(message, body["message"]), body["message"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"


def send(client: Client, path: str, person: Person, **body: Any) -> httpx.Response:
    return client.post(path, headers=person.headers, **body)


def jobs(house: House) -> list[Any]:
    return house.db.reader().execute("SELECT * FROM job ORDER BY seq").fetchall()


def inputs(house: House) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in house.db.reader().execute("SELECT text, url, path FROM job_input")]


def left_in_media(house: House) -> list[str]:
    return [path.name for path in house.settings.media_dir.iterdir()]


# --- what is accepted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"files": {"prompt": (None, "a lighthouse")}},
        {"data": {"prompt": "a lighthouse"}},
        {"json": {"prompt": "a lighthouse", "unknown": 1, "webhook_url": None}},
        {"json": {"prompt": "a lighthouse", "image_url": PUBLIC}},
        {"data": {"prompt": "a lighthouse", "webhook_url": ""}},
    ],
    ids=["multipart", "urlencoded", "json", "extra field", "empty webhook_url"],
)
def test_a_prompt_is_accepted_in_each_way_to_write_it(
    client: Client, house: House, alice: Person, body: dict[str, Any]
) -> None:
    response = client.post(PROMPT, headers=alice.headers, **body)
    assert response.status_code == 202
    (job,) = jobs(house)
    assert response.json()["job_id"] == job["id"]
    recorded.check("accepted.json", pretty({**response.json(), "job_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890"}))
    assert inputs(house) == [("a lighthouse", None, None)]
    assert (job["org_id"], job["key_id"], job["kind"]) == (alice.org_id, alice.key_id, "PROMPT_MODERATION")
    assert job["request_id"] == response.headers["x-request-id"]


def test_the_later_generations_text_route_makes_a_prompt_job(client: Client, house: House, alice: Person) -> None:
    assert client.post("/api/v1/moderate/text", headers=alice.headers, data={"text": "hi"}).status_code == 202
    assert jobs(house)[0]["kind"] == "PROMPT_MODERATION"


@pytest.mark.parametrize("prompt", ["x" * 20_000, "😀" * 20_000, " x ", "naïve — “quoted” \n\x00", "x"])
@pytest.mark.parametrize("form", ["files", "data", "json"])
def test_a_prompt_arrives_to_the_letter_up_to_twenty_thousand_characters(
    client: Client, house: House, alice: Person, form: str, prompt: str
) -> None:
    given: dict[str, Any] = {"prompt": (None, prompt)} if form == "files" else {"prompt": prompt}
    response = send(client, PROMPT, alice, **{form: given})
    assert response.status_code == 202, response.text
    assert inputs(house) == [(prompt, None, None)]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (IMAGE, {"image_url": PUBLIC}),
        (IMAGE, {"image": PUBLIC}),
        (VIDEO, {"video_url": PUBLIC}),
        (VIDEO, {"video": PUBLIC}),
        (IMAGE, {"image_url": "http://unresolvable.example/x.jpg"}),
    ],
    ids=[
        "image_url",
        "image",
        "video_url",
        "video",
        "a name that does not resolve today fails the job, not the request",
    ],
)
@pytest.mark.parametrize("form", ["data", "json"])
def test_media_are_accepted_by_address(
    client: Client, house: House, alice: Person, form: str, path: str, fields: dict[str, str]
) -> None:
    assert send(client, path, alice, **{form: fields}).status_code == 202
    assert inputs(house) == [(None, next(iter(fields.values())), None)]


@pytest.mark.parametrize(
    ("path", "field", "content"),
    [
        (IMAGE, "image_file", PNG),
        (IMAGE, "file", PNG),
        (IMAGE, "image", PNG),
        (VIDEO, "video_file", MP4),
        (VIDEO, "video", MP4),
        (VIDEO, "file", MP4),
    ],
)
def test_a_file_part_lies_in_media_byte_for_byte_until_its_job_is_done(
    client: Client, house: House, alice: Person, path: str, field: str, content: bytes
) -> None:
    response = client.post(path, headers=alice.headers, files={field: ("../../etc/passwd", content)})
    assert response.status_code == 202, response.text
    ((text, url, stored),) = inputs(house)
    assert (text, url) == (None, None)
    assert left_in_media(house) == [stored]
    assert (house.settings.media_dir / stored).read_bytes() == content


def test_a_data_url_is_stored_as_a_file(client: Client, house: House, alice: Person) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert client.post(IMAGE, headers=alice.headers, json={"image_url": url}).status_code == 202
    ((_, _, stored),) = inputs(house)
    assert (house.settings.media_dir / stored).read_bytes() == PNG


def test_a_data_url_may_be_as_large_as_an_upload(client: Client, house: House, alice: Person) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG.ljust(10_000_000, b"\0")).decode()
    for body in ({"json": {"image_url": url}}, {"files": {"image_url": (None, url)}}):
        assert send(client, IMAGE, alice, **body).status_code == 202


def test_a_request_may_name_its_own_webhook(client: Client, house: House, alice: Person) -> None:
    client.post(PROMPT, headers=alice.headers, data={"prompt": "hi", "webhook_url": "http://93.184.216.34/hook"})
    assert jobs(house)[0]["webhook_url"] == "http://93.184.216.34/hook"


def test_two_requests_at_once_make_two_jobs(client: Client, house: House, alice: Person, bob: Person) -> None:
    begin = threading.Barrier(2)
    answers: list[httpx.Response] = []

    def submit(person: Person) -> None:
        begin.wait()
        answers.append(client.post(PROMPT, headers=person.headers, data={"prompt": "hi"}))

    threads = [threading.Thread(target=submit, args=(person,)) for person in (alice, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.json()["job_id"] for answer in answers} == {job["id"] for job in jobs(house)}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


def test_a_job_without_any_check_is_completed_as_it_is_accepted(client: Client, house: House, alice: Person) -> None:
    client.put("/api/v1/me/moderation-config", headers=alice.headers, json={"text": False})
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"}).json()["status"] == "queued"
    assert jobs(house)[0]["status"] == "completed"


# --- bad input -------------------------------------------------------------------------------------------------------

# A refusal leaves nothing behind, so these tests share one application, and a test that leaves something shows.


class Shared(msgspec.Struct, frozen=True):
    client: Client
    house: House
    alice: Person


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    from appliance.api.app import create_app

    house = House(Settings(home=tmp_path_factory.mktemp("shared"), limits=UNHURRIED))
    with TestClient(create_app(house)) as client:
        yield Shared(client, house, enrol(house, "A", "alice"))


URL_FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("path", "request_", "message"),
    [
        (PROMPT, {"data": {}}, "^prompt is required$"),
        (PROMPT, {"data": {"other": "x"}}, "^prompt is required$"),
        (PROMPT, {"json": {"prompt": None}}, "^prompt is required$"),
        (PROMPT, {"data": {"prompt": ""}}, "^prompt must not be empty$"),
        (PROMPT, {"data": {"prompt": " \t\n　"}}, "^prompt must not be empty$"),
        (PROMPT, {"json": {"prompt": 7}}, "^prompt must be a string$"),
        (PROMPT, {"json": {"prompt": ["x"]}}, "^prompt must be a string$"),
        (PROMPT, {"json": ["prompt"]}, "must be a JSON object"),
        (PROMPT, {"data": {"prompt": "x" * 20_001}}, "^prompt is over 20,000 characters$"),
        (PROMPT, {"json": {"prompt": "x" * 20_001}}, "^prompt is over 20,000 characters$"),
        (PROMPT, {"content": b"prompt=a&prompt=b", "headers": URL_FORM}, "^prompt is given twice$"),
        (
            PROMPT,
            {"data": {"image_url": PUBLIC}},
            "^prompt is required here; send image_url to POST .*/moderate/image$",
        ),
        (
            PROMPT,
            {"json": {"video_url": PUBLIC}},
            "^prompt is required here; send video_url to POST .*/moderate/video$",
        ),
        (PROMPT, {"files": {"image_file": ("a.png", PNG)}}, "send image_file to POST .*/moderate/image$"),
        (PROMPT, {"files": {"prompt": ("a.txt", b"hi")}}, "^prompt must be a text field here, not a file$"),
        ("/api/v1/moderate/text", {"data": {"prompt": "hi"}}, "^text is required"),
        (IMAGE, {"data": {"prompt": "hi"}}, "^image_url is required here; send prompt to POST .*/moderate/prompt$"),
        (IMAGE, {"data": {"video_url": PUBLIC}}, "send video_url to POST .*/moderate/video$"),
        (IMAGE, {"files": {"video_file": ("a.mp4", MP4)}}, "send video_file to POST .*/moderate/video$"),
        (VIDEO, {"data": {"image_url": PUBLIC}}, "^video_url is required here; send image_url to POST"),
        (IMAGE, {"data": {"image_url": ""}}, "^image_url must not be empty$"),
        (IMAGE, {"json": {"image_url": 1}}, "^image_url must be a string$"),
        (IMAGE, {"data": {"image_url": "ftp://93.184.216.34/x"}}, "^image_url must begin with http"),
        (IMAGE, {"data": {"image_url": "/etc/passwd"}}, "^image_url must begin with http"),
        (IMAGE, {"data": {"image_url": "http://93.184.216.34/" + "x" * 2048}}, "^image_url is over 2048 characters$"),
        (IMAGE, {"data": {"image_url": PUBLIC, "image": PUBLIC}}, "both given"),
        (IMAGE, {"files": {"image_url": (None, PUBLIC), "image_file": ("a", PNG)}}, "both given"),
        (IMAGE, {"files": [("image_file", ("a", PNG)), ("image_file", ("b", PNG))]}, "^Send one file a request$"),
        (IMAGE, {"files": {"image_file": ("a.png", b"")}}, "^image_file is empty$"),
        (IMAGE, {"files": {"image_file": (None, b"x")}}, "^image_file must be sent as a file"),
        (IMAGE, {"json": {"image_url": "data:image/png;base64,@@@"}}, "^image_url is not valid base64$"),
        (IMAGE, {"json": {"image_url": "data:image/png,abc"}}, "^image_url is not a data: URL in base64$"),
        (IMAGE, {"json": {"image_url": "data:video/mp4;base64,AAAA"}}, "^image_url is not a data: URL of an image"),
        (IMAGE, {"json": {"image_url": "data:image/png;base64,"}}, "^image_url is empty$"),
        (PROMPT, {"data": {"prompt": "x", "webhook_url": "nonsense"}}, "^webhook_url must be an absolute http"),
        (PROMPT, {"data": {"prompt": "x", "webhook_url": "http://127.0.0.1/"}}, "^webhook_url leads to a private"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_kept(
    shared: Shared, path: str, request_: dict[str, Any], message: str
) -> None:
    headers = {**shared.alice.headers, **request_.get("headers", {})}
    response = shared.client.post(path, **{**request_, "headers": headers})
    refusal(response, 400, "INVALID_REQUEST", message)
    assert jobs(shared.house) == []
    assert left_in_media(shared.house) == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "[::ffff:127.0.0.1]", "[fe80::1]", "[fc00::1]", "2130706433", "0x7f.1", "[64:ff9b::7f00:1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("path", "field"), [(IMAGE, "image_url"), (VIDEO, "video_url")])
def test_an_address_on_a_private_network_is_refused(shared: Shared, path: str, field: str, host: str) -> None:
    response = shared.client.post(path, headers=shared.alice.headers, data={field: f"http://{host}/x"})
    refusal(response, 400, "INVALID_REQUEST", f"^{field} leads to a private or internal network address")


def test_a_private_network_that_the_operator_allows_is_accepted(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, media=Media(allowed_private_cidrs=["10.0.0.0/8"])))
    alice = enrol(house, "A", "alice")
    assert client.post(IMAGE, headers=alice.headers, data={"image_url": "http://10.1.2.3/x"}).status_code == 202


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b'{"prompt": ', JSON),
        (b"", JSON),
        (b"\xff\xfe", JSON),
        (b'{"prompt": "\\ud800 lone"}', JSON),
        (b"[" * 100_000, JSON),
        (b"prompt=%FF", URL_FORM),
        ("prompt=é".encode("latin-1"), URL_FORM),
        (b"prompt", URL_FORM),
        (b"not a form at all", MULTIPART),
        (b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhalf', MULTIPART),
        (b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--b--\r\n', MULTIPART),
        (b"--b\r\nX: y\r\n\r\nno disposition\r\n--b--\r\n", MULTIPART),
        (b"", MULTIPART),
        (b"x", {"content-type": "multipart/form-data"}),
    ],
)
def test_a_malformed_body_is_refused_as_such(shared: Shared, content: bytes, headers: dict[str, str]) -> None:
    response = shared.client.post(PROMPT, headers={**shared.alice.headers, **headers}, content=content)
    refusal(response, 400, "INVALID_REQUEST", "JSON|form|boundary")
    assert jobs(shared.house) == []


def test_a_body_of_another_type_is_refused_with_those_that_are_read(shared: Shared) -> None:
    response = shared.client.post(PROMPT, headers={**shared.alice.headers, "content-type": "text/plain"}, content=b"hi")
    refusal(response, 415, "UNSUPPORTED_MEDIA", "^Send multipart/form-data, .* or application/json$")


@pytest.mark.parametrize(
    ("path", "field", "content", "refused"),
    [
        (IMAGE, "image_file", b"just some words", "^image_file: text is not an image"),
        (IMAGE, "image_file", b"%PDF-1.7 and so on", "^image_file: a PDF document is not"),
        (
            VIDEO,
            "video_file",
            b"ffconcat version 1.0\nfile /etc/passwd",
            r"^video_file: a list of files \(ffconcat\) is not",
        ),
    ],
)
def test_a_file_that_is_no_media_is_refused_at_the_door(
    shared: Shared, path: str, field: str, content: bytes, refused: str
) -> None:
    response = shared.client.post(path, headers=shared.alice.headers, files={field: ("a.png", content)})
    refusal(response, 415, "UNSUPPORTED_MEDIA", refused)
    assert left_in_media(shared.house) == []


@pytest.mark.parametrize(
    ("path", "field", "content", "other"), [(IMAGE, "image_file", MP4, "video"), (VIDEO, "video_file", PNG, "image")]
)
def test_a_file_of_the_other_kind_is_sent_to_its_endpoint(
    shared: Shared, path: str, field: str, content: bytes, other: str
) -> None:
    response = shared.client.post(path, headers=shared.alice.headers, files={field: ("a", content)})
    refusal(response, 400, "INVALID_REQUEST", f"^{field} is an? {other}; send it to POST /api/v1/moderate/{other}$")
    assert left_in_media(shared.house) == []


@pytest.mark.parametrize(
    ("path", "request_", "message"),
    [
        (IMAGE, {"files": {"image_file": ("a.png", b"x" * 10_000_001)}}, "^image_file is over 10 MB$"),
        (PROMPT, {"files": {"prompt": (None, "x" * 100_001)}}, "^prompt is over 100 KB$"),
        (PROMPT, {"content": b"x" * 512_001, "headers": JSON}, "over 512 KB$"),
        (PROMPT, {"files": {f"f{n}": (None, "x") for n in range(33)}}, "more than 32 parts"),
        (IMAGE, {"content": b"x" * 20_000_000, "headers": JSON}, "The request body is over"),
        (IMAGE, {"json": {"image_url": "data:image/png;base64," + "A" * 13_400_000}}, "^image_url is over 10 MB$"),
        (IMAGE, {"files": {"webhook_url": (None, "x" * 100_001)}}, "^webhook_url is over 100 KB$"),
    ],
)
def test_what_is_too_large_is_refused_and_nothing_is_kept(
    shared: Shared, path: str, request_: dict[str, Any], message: str
) -> None:
    headers = {**shared.alice.headers, **request_.get("headers", {})}
    refusal(shared.client.post(path, **{**request_, "headers": headers}), 413, "PAYLOAD_TOO_LARGE", message)
    assert jobs(shared.house) == []
    assert left_in_media(shared.house) == []


def test_uploads_that_are_off_are_refused_in_the_contracts_words(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, uploads=Uploads(image=False, video=False, data_urls=True)))
    alice = enrol(house, "A", "alice")
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    for path, request_, kind in (
        (IMAGE, {"files": {"image_file": ("a.png", PNG)}}, "image"),
        (IMAGE, {"json": {"image_url": url}}, "image"),
        (VIDEO, {"files": {"video_file": ("a.mp4", MP4)}}, "video"),
    ):
        response = send(client, path, alice, **request_)
        refusal(response, 400, "INVALID_REQUEST", f"^{kind} file upload is currently disabled$")
    assert client.post(IMAGE, headers=alice.headers, data={"image_url": PUBLIC}).status_code == 202
    assert left_in_media(house) == []


def test_data_urls_can_be_off_while_files_are_on(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, uploads=Uploads(data_urls=False)))
    alice = enrol(house, "A", "alice")
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    response = client.post(IMAGE, headers=alice.headers, json={"image_url": url})
    refusal(response, 400, "INVALID_REQUEST", "^data: URLs are currently disabled$")
    assert client.post(IMAGE, headers=alice.headers, files={"image_file": ("a", PNG)}).status_code == 202


# --- not now ---------------------------------------------------------------------------------------------------------


def test_a_nearly_full_disk_is_said_before_the_upload_is_read(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, server=Server(min_free_disk_mb=10**9)))
    alice = enrol(house, "A", "alice")
    response = client.post(IMAGE, headers=alice.headers, files={"image_file": ("a", PNG)})
    refusal(response, 503, "SERVICE_UNAVAILABLE", "^The disk is nearly full")
    assert response.headers["retry-after"] == "60"
    assert left_in_media(house) == []


def test_a_full_queue_says_when_to_try_again(
    client_with: Callable[[Settings], tuple[Client, House]], settings: Settings
) -> None:
    client, house = client_with(replace(settings, server=Server(max_pending_jobs=1)))
    alice = enrol(house, "A", "alice")
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"}).status_code == 202
    response = client.post(IMAGE, headers=alice.headers, files={"image_file": ("a", PNG)})
    refusal(response, 503, "SERVICE_UNAVAILABLE", "^Too many jobs are waiting")
    assert int(response.headers["retry-after"]) >= 1
    assert len(jobs(house)) == 1
    assert left_in_media(house) == []


def test_large_bodies_at_once_are_held_to_a_budget_and_give_it_back(
    client: Client, house: House, alice: Person
) -> None:
    there = client.app.state["door"]
    there.bodies = form.Budget(1_000_000)
    url = "data:image/png;base64," + base64.b64encode(PNG.ljust(1_000_000, b"\0")).decode()
    for body in ({"json": {"image_url": url}}, {"files": {"image_url": (None, url)}}):
        refusal(send(client, IMAGE, alice, **body), 503, "SERVICE_UNAVAILABLE", "send media as a file, or try again")
    there.bodies = form.Budget(1_500_000)
    for _ in range(3):
        assert send(client, IMAGE, alice, json={"image_url": url}).status_code == 202
    assert send(client, IMAGE, alice, files={"image_file": ("a", PNG.ljust(5_000_000))}).status_code == 202


def test_a_full_database_accepts_nothing_and_recovers(client: Client, house: House, alice: Person) -> None:
    def allow(pages: int) -> None:
        house.db.write(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    (used,) = house.db.reader().execute("PRAGMA page_count").fetchone()
    allow(used)
    long = {"prompt": "x" * 20_000}
    response = client.post(PROMPT, headers=alice.headers, data=long)
    refusal(response, 503, "SERVICE_UNAVAILABLE", "^The database cannot be written")
    assert jobs(house) == []
    allow(used + 10_000)
    assert client.post(PROMPT, headers=alice.headers, data=long).status_code == 202


def test_a_database_locked_for_long_accepts_nothing_and_recovers(client: Client, house: House, alice: Person) -> None:
    house.db.write(lambda conn: conn.execute("PRAGMA busy_timeout = 50").fetchone())
    other = database.connect(house.settings.database)
    other.execute("BEGIN IMMEDIATE")
    response = client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"})
    refusal(response, 503, "SERVICE_UNAVAILABLE", "^The database cannot be written .*locked")
    other.execute("ROLLBACK")
    other.close()
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"}).status_code == 202
    assert len(jobs(house)) == 1


def test_a_lock_holds_a_caller_no_longer_than_an_answer_may_take_and_nothing_is_done_afterwards(
    client: Client, house: House, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2026-11-21: every surface answered a locked database after 61 s: two commits waited 30 s each."""
    monkeypatch.setattr("appliance.database._PATIENCE_S", 0.2)
    other = database.connect(house.settings.database)
    other.execute("BEGIN IMMEDIATE")
    response = client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"})
    refusal(response, 503, "SERVICE_UNAVAILABLE", "^The database cannot be written at the moment")
    other.execute("ROLLBACK")
    other.close()
    house.db.write(lambda conn: None)
    assert jobs(house) == []
    assert client.post(PROMPT, headers=alice.headers, data={"prompt": "hi"}).status_code == 202
    assert len(jobs(house)) == 1


def test_a_caller_who_leaves_does_not_take_the_writer_with_it(house: House) -> None:
    """2026-11-21: a request that was cancelled in its write killed the writer thread, and every later write hung."""
    import asyncio

    async def leave() -> int:
        slow = threading.Event()
        first = asyncio.create_task(house.db.write_async(lambda conn: slow.wait(5)))
        second = asyncio.create_task(house.db.write_async(lambda conn: None))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        slow.set()
        return await house.db.write_async(lambda conn: conn.execute("SELECT 7").fetchone()[0])

    assert asyncio.run(leave()) == 7


def test_what_was_submitted_stands_in_no_log_line(
    client: Client, alice: Person, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    client.post(PROMPT + "?q=heronmark", headers=alice.headers, data={"prompt": "heronmark"})
    client.post(PROMPT, headers=alice.headers, json={"prompt": {"heronmark": "heronmark"}})
    client.post(IMAGE, headers=alice.headers, data={"image_url": "http://127.0.0.1/heronmark"})
    lines = [json.dumps(vars(record), default=str) for record in caplog.records if record.name.startswith("appliance")]
    assert len(lines) >= 3
    assert not [line for line in lines if "heronmark" in line or alice.key in line]


def test_an_unexpected_fault_is_a_500_that_tells_nothing_and_is_logged_without_content(
    client: Client, house: House, alice: Person, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance import log
    from appliance.api import moderate

    def fault(conn: Connection, *args: Any) -> None:
        raise KeyError(args[-1].text)

    monkeypatch.setattr(moderate, "submit", fault)
    response = client.post(PROMPT, headers={**alice.headers, "x-request-id": "mine"}, data={"prompt": "heronmark"})
    refusal(response, 500, "INTERNAL_ERROR", "the operator finds it in the log under this request_id")
    (record,) = [record for record in caplog.records if record.message == "request failed"]
    line = log.JsonLines().format(record)
    assert "heronmark" not in line
    assert "KeyError" in line
    assert '"request_id":"mine"' in line
    assert jobs(house) == []


def test_the_folder_of_media_is_ours_alone(house: House) -> None:
    assert Path(house.settings.media_dir).stat().st_mode & 0o007 == 0
