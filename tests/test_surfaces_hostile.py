"""Every surface that answers at once, against everything that may go wrong: one table of surfaces, one of cases. Each
answer is the surface's own status and body, and what was sent stands in no log, no metric and no file."""

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from litestar.testing import TestClient

from appliance.accounts import keys, organisations
from appliance.accounts.organisations import Changes
from appliance.house import House
from tests.cast import Person, enrol
from tests.decided import on_plan
from tests.reader import Reader

Client = TestClient[Any]

MARK = "Heronmarkling"
FAIR = "A wonderful day by the lake"
BY = {"actor": "operator:test", "reason": "a test"}


class Surface(NamedTuple):
    path: str
    """{key} stands for the key."""
    header: str
    """Where the key comes otherwise; empty: nowhere else."""
    body: Callable[[str], Any]
    dialect: str
    is_omnimod: bool = False
    refused: Mapping[str, int] = MappingProxyType({})
    """Case → this surface's own status, where it is not the common one."""


GOOGLE = {"wrong key": 400, "no key": 400, "revoked": 400, "another type": 400, "too large": 400}
OPENAI = {"another type": 400, "too large": 400}
AZURE = {"too large": 400, "quota": 403}

SURFACES = {
    "omnimod": Surface(
        "/v1/moderations", "authorization", lambda text: {"modality": "text", "input": text}, "omnimod", is_omnimod=True
    ),
    "omnimod's alias": Surface(
        "/omnimod/v1/moderations", "authorization", lambda text: {"modality": "text", "input": text}, "omnimod"
    ),
    "openai": Surface(
        "/v1/moderations", "authorization", lambda text: {"model": "m", "input": text}, "openai", refused=OPENAI
    ),
    "openai's alias": Surface(
        "/openai/v1/moderations", "authorization", lambda text: {"input": text}, "openai", refused=OPENAI
    ),
    "perspective": Surface(
        "/v1alpha1/comments:analyze?key={key}",
        "",
        lambda text: {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]},
        "google",
        refused=GOOGLE,
    ),
    "azure": Surface(
        "/contentsafety/text:analyze?api-version=2024-09-01",
        "ocp-apim-subscription-key",
        lambda text: {"text": text},
        "azure",
        refused=AZURE,
    ),
    "litellm": Surface("/beta/litellm_basic_guardrail_api", "x-api-key", lambda text: {"texts": [text]}, "ours"),
    "dify": Surface(
        "/compat/dify",
        "authorization",
        lambda text: {"point": "app.moderation.output", "params": {"text": text}},
        "ours",
    ),
}


def check_shape(dialect: str, answer: httpx.Response) -> None:
    """An error in the words of the service that the surface stands in for."""
    body = answer.json()
    match dialect:
        case "omnimod":
            assert set(body) == {"detail"}
        case "openai":
            assert set(body) == {"error"}
            assert set(body["error"]) == {"message", "type", "param", "code"}
        case "google":
            assert set(body) == {"error"}
            assert body["error"]["code"] == answer.status_code
            assert body["error"]["status"].isupper()
        case "azure":
            assert set(body) == {"error"}
            assert body["error"]["message"]
            assert answer.headers["x-ms-error-code"] == body["error"]["code"]
        case _:
            assert {"error", "message", "statusCode", "request_id"} <= set(body)
            assert body["statusCode"] == answer.status_code
    assert MARK not in answer.text
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1


@pytest.fixture
def reader(house: House) -> Iterator[Reader]:
    reader = Reader(house.settings.inference_socket)
    yield reader
    reader.close()


def key_for(house: House, surface: Surface, org: str = "A", **how: Any) -> Person:
    return enrol(house, org, "a key", surface="omnimod" if surface.is_omnimod else "stars", **how)


def ask(
    client: Client, surface: Surface, key: str, content: bytes | None = None, kind: str = "application/json"
) -> httpx.Response:
    headers = {"content-type": kind}
    if surface.header and key:
        headers[surface.header] = f"Bearer {key}" if surface.header == "authorization" else key
    if content is None:
        content = json.dumps(surface.body(FAIR)).encode()
    return client.post(surface.path.replace("{key}", key), content=content, headers=headers)


BODIES = {
    "nothing": b"",
    "cut off": b'{"input": "' + MARK.encode(),
    "a list": b"[]",
    "null": b"null",
    "no UTF-8": b'{"input": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "deep members": b'{"a":' * 50_000,
    "a lone surrogate": b'{"modality": "text", "input": "\\ud800", "text": "\\ud800", "texts": ["\\ud800"]}',
    "a number without end": b'{"input": ' + b"9" * 10_000 + b"}",
    "no number": b'{"input": NaN}',
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_no_body_is_400(client: Client, house: House, name: str) -> None:
    surface = SURFACES[name]
    who = key_for(house, surface)
    for body, content in BODIES.items():
        answer = ask(client, surface, who.key, content)
        assert answer.status_code == 400, body
        check_shape(surface.dialect, answer)


TEXTS = {
    "marks": "e" + "\u0301" * 9_999,
    "overrides": "\u202e" * 6_000 + "a",
    "nothing that is seen": "\u200b" * 6_000 + "a",
    "NULs": "\x00a" * 5_000,
    "ligatures": "ﷺ" * 6_000,
    "an expression": "(a+)+$" * 1_600,
    "addresses": "a@" * 5_000,
    "single letters": "a." * 5_000,
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_odd_is_decided_or_refused(client: Client, house: House, reader: Reader, name: str) -> None:
    surface = SURFACES[name]
    who = key_for(house, surface)
    for text, said in TEXTS.items():
        answer = ask(client, surface, who.key, json.dumps(surface.body(said)).encode())
        assert answer.status_code in (200, 400), text
        if answer.status_code == 400:
            check_shape(surface.dialect, answer)


@pytest.mark.parametrize("name", SURFACES)
def test_a_text_of_no_length_or_too_much_is_never_decided(
    client: Client, house: House, reader: Reader, name: str
) -> None:
    surface = SURFACES[name]
    who = key_for(house, surface)
    for text in ("", "x" * 1_000_000):
        answer = ask(client, surface, who.key, json.dumps(surface.body(text)).encode())
        if text or surface.dialect != "ours":  # of a conversation in which nothing is said nothing is flagged
            assert answer.status_code in (400, 413)
            check_shape(surface.dialect, answer)
    assert house.db.reader().execute("SELECT count(*) FROM moderation_event").fetchone()[0] == 0


def _wrong_key(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    return ask(client, surface, who.key[:-4] + "AAAA")


def _no_key(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    return ask(client, surface, "")


def _revoked(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    house.db.write(lambda conn: keys.revoke(conn, who.key_id, actor="operator:test"))
    return ask(client, surface, who.key)


def _scopeless(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    return ask(client, surface, key_for(house, surface, "no scope", granted=("job:read",)).key)


def _disabled(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    house.db.write(lambda conn: organisations.disable(conn, who.org_id, **BY))
    return ask(client, surface, who.key)


def _banned(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    house.db.write(lambda conn: organisations.ban(conn, who.org_id, **BY))
    return ask(client, surface, who.key)


def _quota(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    on_plan(house, who, "free", 0)
    return ask(client, surface, who.key)


def _rate(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    house.db.write(lambda conn: organisations.change(conn, who.org_id, Changes(requests_per_minute=1), **BY))
    assert ask(client, surface, who.key).status_code == 200
    return ask(client, surface, who.key)


def _another_type(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    return ask(client, surface, who.key, kind="text/plain")


def _too_large(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    return ask(client, surface, who.key, b" " * 33_000_000)


def _full(client: Client, house: House, surface: Surface, who: Person) -> httpx.Response:
    assert ask(client, surface, who.key).status_code == 200  # the policy is there
    house.db.write(lambda conn: conn.execute("PRAGMA max_page_count = 1").fetchone())
    answers = [ask(client, surface, who.key) for _ in range(40)]  # the last page has room for some
    assert {one.status_code for one in answers} <= {200, 503}
    return answers[-1]


CASES: dict[str, tuple[int, Callable[[Client, House, Surface, Person], httpx.Response]]] = {
    "wrong key": (401, _wrong_key),
    "no key": (401, _no_key),
    "revoked": (401, _revoked),
    "no scope": (403, _scopeless),
    "disabled": (403, _disabled),
    "banned": (403, _banned),
    "quota": (429, _quota),
    "rate": (429, _rate),
    "another type": (415, _another_type),
    "too large": (413, _too_large),
    "full disk": (503, _full),
}


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_refused_is_refused_in_the_surfaces_own_words(
    client: Client, house: House, reader: Reader, name: str
) -> None:
    surface = SURFACES[name]
    for case, (status, happen) in CASES.items():
        answer = happen(client, house, surface, key_for(house, surface, case))
        assert answer.status_code == surface.refused.get(case, status), case
        # without a key the shared path is OpenAI's (C.1)
        check_shape("openai" if case == "no key" and surface.is_omnimod else surface.dialect, answer)


@pytest.mark.parametrize("name", SURFACES)
def test_another_method_is_405_and_a_path_below_404(client: Client, house: House, name: str) -> None:
    surface = SURFACES[name]
    who = key_for(house, surface)
    for path, status in ((surface.path, 405), (f"{surface.path.partition('?')[0]}/nothing", 404)):
        answer = client.put(path.replace("{key}", who.key), headers=who.headers, json={})
        assert answer.status_code == status
        check_shape(surface.dialect, answer)


@pytest.mark.parametrize("name", SURFACES)
def test_what_was_sent_and_by_which_key_stands_in_no_log_no_metric_and_no_file(
    client: Client, house: House, reader: Reader, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("DEBUG")
    surface = SURFACES[name]
    who = key_for(house, surface)
    sent = json.dumps(surface.body(f"{MARK}, you worthless idiot")).encode()
    assert ask(client, surface, who.key, sent).status_code == 200
    ask(client, surface, who.key, sent, kind=f"text/{MARK}")
    ask(client, surface, who.key, sent[:-1])
    ask(client, surface, who.key, sent[:-1] + f', "{MARK}": "{MARK}"'.encode() + b"}")
    ask(client, surface, f"{who.key}x", sent)
    client.get(f"/v1/{MARK}?key={who.key}")
    reader.close()
    ask(client, surface, who.key, sent.replace(b"worthless", b"useless"))
    written = b"".join(path.read_bytes() for path in house.settings.home.rglob("*") if path.is_file())
    logged = "".join(f"{vars(record)}" for record in caplog.records if record.name.startswith("appliance"))
    for told in (written.decode("latin-1"), logged, client.get("/metrics").text):
        assert MARK.lower() not in told.lower()
        assert who.key not in told
