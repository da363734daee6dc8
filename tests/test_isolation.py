"""No tenant sees or changes what is another's: every route of the document, asked with the other's ids.

Alice and Charlie have done the same things, with other words. Charlie then asks each route with Alice's ids, and again
with ids that nobody has: the answers must not differ, nothing of Alice's may stand in any of them, and of her rows not
one may have changed. What is Alice's is read from the tables themselves, so a new table is covered by being there; a
new route needs a line in WALK.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import clock
from appliance.accounts import keys, scopes
from appliance.api.app import create_app
from appliance.billing import ledger
from appliance.billing.ledger import EntryType
from appliance.database import Connection
from appliance.house import House
from appliance.jobs import advance
from appliance.jobs.job import Finding
from appliance.moderations.verdict import Ask
from appliance.policies import change as policies
from appliance.policies.change import By
from appliance.settings import Inference, Server, Settings
from appliance.text.analysis import ANALYZERS
from tests import decided
from tests.cast import UNHURRIED, Person, enrol
from tests.paying import Till, faking, leading_to

Client = TestClient[Any]

TENANT = tuple(scope for scope in scopes.ALL if scope != "admin:config")
METHODS = ("get", "post", "put", "delete", "patch")
ADMIN = "/api/v1/admin"
ORGS = "/admin/v1/orgs"
OPEN = {"get /health", "get /health/live", "get /metrics", "get /$discovery/rest"}
BODILESS = ("get", "delete")

UNKNOWN = {
    "job_id": "00000000-0000-4000-8000-000000000000",
    "batch_id": "00000000-0000-4000-8000-000000000001",
    "category_id": "00000000-0000-4000-8000-000000000002",
    "payment_method_id": "pm_1Unknown00000000000000000",
    "idempotency_key": "a-key-of-nobody",
    "model_id": "customhouse/no-policy",
    "policy": "no-policy",
    "event": "mev_01KAJ6Z8Q4M3T9V5W2X7Y1B0CD",
    "token": "00000000-0000-4000-8000-000000000003",
    "blocklist_name": "nobodys-list",
    "item_id": "00000000-0000-4000-8000-000000000004",
    "mark": "nobody",
    "from": "2026-05-01T00:00:00Z",
    "to": "2026-05-31T00:00:00Z",
}
"""Ids of the right form that nobody has."""


class Try(NamedTuple):
    """How a route is asked with somebody's ids: `{name}` stands for one."""

    status: int
    """What is answered, to another's ids and to unknown ones alike."""
    query: Mapping[str, str] = MappingProxyType({})
    body: Any = None
    is_own: bool = False
    """It makes or changes something of the caller's own: then the answers are compared by their members only."""


def submitted(**body: str) -> Try:
    return Try(202, body=body, is_own=True)


AZURE = MappingProxyType({"api-version": "2024-09-01"})

WALK: dict[str, Try] = {
    # The key names what Alice did with the same body: it must be Charlie's own job, not hers again.
    "post /api/v1/moderate/prompt": submitted(prompt="A lighthouse at dawn"),
    "post /api/v1/moderate/text": submitted(text="A lighthouse at dawn"),
    "post /api/v1/moderate/image": submitted(image_url="http://93.184.216.34/{mark}.png"),
    "post /api/v1/moderate/video": submitted(video_url="http://93.184.216.34/{mark}.mp4"),
    "post /api/v1/moderate/text/batch": Try(
        202, body={"items": [{"key": "a", "text": "A lighthouse at dawn"}]}, is_own=True
    ),
    "get /api/v1/moderate/text/batch/{batch_id}": Try(404),
    "get /api/v1/job/{job_id}": Try(404),
    "get /api/v1/job/{job_id}/progress": Try(404),
    "get /api/v1/jobs": Try(200, query={"search": "{job_id}"}),
    "get /api/v1/jobs/export": Try(200, query={"from": "{from}", "to": "{to}"}),
    "get /api/v1/usage": Try(200),
    "get /api/v1/usage/volume": Try(200),
    "get /api/v1/usage/cost": Try(200),
    "get /api/v1/usage/rejections": Try(200),
    "get /api/v1/me/moderation-config": Try(200),
    "put /api/v1/me/moderation-config": Try(200, body={"nsfw": False}),
    "post /api/v1/webhook/register": Try(200, body={"url": "http://93.184.216.34/{mark}"}, is_own=True),
    "delete /api/v1/webhook/register": Try(204),
    "get /api/v1/me/webhook-secrets": Try(200),
    "post /api/v1/me/webhook-secrets/reveal": Try(200),
    "post /api/v1/me/webhook-secrets/rotate": Try(200, is_own=True),
    "get /api/v1/me/custom-categories": Try(200),
    "post /api/v1/me/custom-categories": Try(
        201, body={"name": "{mark} new", "system_prompt": "Is {mark} new in it?"}, is_own=True
    ),
    "put /api/v1/me/custom-categories/{category_id}": Try(404, body={"name": "taken over"}),
    "delete /api/v1/me/custom-categories/{category_id}": Try(404),
    "get /api/v1/me/custom-categories/{category_id}/versions": Try(404),
    "post /api/v1/me/custom-categories/try": Try(
        400, body={"system_prompt": "Is there a boat?", "image_url": "http://127.0.0.1/a.png"}
    ),
    "post /api/v1/me/custom-categories/{category_id}/try": Try(404, body={"image_url": "http://127.0.0.1/a.png"}),
    "get /api/v1/me/default-categories": Try(200),
    "get /api/v1/me/prompt-steps": Try(200),
    "put /api/v1/me/prompt-steps": Try(200, body={"steps": {"spam": 0.9}}),
    "get /api/v1/billing/balance": Try(200),
    "get /api/v1/billing/records": Try(200),
    "get /api/v1/billing/payment-methods": Try(200),
    "delete /api/v1/billing/payment-methods/{payment_method_id}": Try(404),
    "get /api/v1/billing/auto-topup": Try(200),
    "put /api/v1/billing/auto-topup": Try(
        400,
        body={"enabled": True, "threshold_usd": 5, "amount_usd": 20, "payment_method_id": "{payment_method_id}"},
    ),
    "post /api/v1/billing/checkout-session": Try(200, body={"amount_usd": 25}, is_own=True),
    "post /api/v1/billing/portal-session": Try(200, is_own=True),
    "post /v1/moderations": Try(200, body={"modality": "text", "input": "A lighthouse at dawn"}, is_own=True),
    "post /omnimod/v1/moderations": Try(200, body={"modality": "text", "input": "A lighthouse at dawn"}, is_own=True),
    "post /v1/moderations/image": Try(400),
    "post /omnimod/v1/moderations/image": Try(400),
    "post /openai/v1/moderations": Try(503, body={"input": "A lighthouse at dawn"}),  # no model process is here
    "get /v1/policies": Try(200),
    "get /v1/policies/{policy}": Try(404),
    "get /v1/policies/{policy}/versions": Try(404),
    "get /v1/events": Try(200),
    "get /v1/events/{event}": Try(404),
    "get /v1/usage": Try(200),
    "get /v1/quota": Try(200),
    "get /v1/plans": Try(200),
    "get /v1/org": Try(200),
    "get /v1/overview": Try(200),
    "get /v1/models": Try(200),
    "get /openai/v1/models": Try(200),
    "get /v1/models/{model_id}": Try(404),
    "get /openai/v1/models/{model_id}": Try(404),
    "post /beta/litellm_basic_guardrail_api": Try(503, body={"texts": ["A lighthouse at dawn"]}, is_own=True),
    "post /compat/dify": Try(
        503, body={"point": "app.moderation.output", "params": {"text": "A lighthouse at dawn"}}, is_own=True
    ),
    # A key's id is no key.
    "post /compat/pictrs/{token}": Try(401),
    "get /compat/pleroma/{token}": Try(401, query={"url": "http://93.184.216.34/{mark}.png"}),
    # Of the lists alone, so that no model is asked.
    "post /v1alpha1/comments:analyze": Try(
        200,
        body={
            "comment": {"text": "A lighthouse at dawn"},
            "requestedAttributes": {"PROFANITY": {}},
            "languages": ["en"],
            "clientToken": "{mark}",
        },
        is_own=True,
    ),
    "post /v1alpha1/comments:suggestscore": Try(
        200,
        body={
            "comment": {"text": "A lighthouse at dawn"},
            "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}}},
            "clientToken": "{mark}s-token",
        },
        is_own=True,
    ),
    # Asked without a blocklist of that name it names what is wrong; with one, a model that is not there.
    "post /contentsafety/text:analyze": Try(
        400, query=AZURE, body={"text": "A lighthouse at dawn", "blocklistNames": ["{blocklist_name}"]}
    ),
    "post /contentsafety/image:analyze": Try(400, query=AZURE, body={"image": {"blobUrl": "http://127.0.0.1/a.png"}}),
    "get /contentsafety/text/blocklists": Try(200, query=AZURE),
    "get /contentsafety/text/blocklists/{blocklist_name}": Try(404, query=AZURE),
    "patch /contentsafety/text/blocklists/{blocklist_name}": Try(
        400, query=AZURE, body={"blocklistName": "another-one"}
    ),
    "delete /contentsafety/text/blocklists/{blocklist_name}": Try(204, query=AZURE),
    "post /contentsafety/text/blocklists/{blocklist_name}": Try(404, query=AZURE, body={}),
    "get /contentsafety/text/blocklists/{blocklist_name}/blocklistItems": Try(404, query=AZURE),
    "get /contentsafety/text/blocklists/{blocklist_name}/blocklistItems/{item_id}": Try(404, query=AZURE),
}
"""Every route that a tenant may ask. Those of the administrator are refused whole, below."""


class Scene:
    """Two tenants who did the same, and the application that they ask."""

    def __init__(self, client: Client, house: House, till: Till) -> None:
        self.client, self.house, self.till = client, house, till
        self.document: dict[str, Any] = client.get("/schema/openapi.json").json()
        self.charlie = enrol(house, "Charlie's", "charlies-key", granted=TENANT)
        self.live(self.charlie, "charlie")
        self.seen_before = self.lists()
        self.alice = enrol(house, "Alice's", "alices-key", granted=TENANT)
        self.theirs = self.live(self.alice, "alice")
        self.traces = self.values_of(self.alice) - self.values_of(self.charlie)
        self.rows_before = self.rows_of(self.alice)
        self.seen_after = self.lists()

    @property
    def routes(self) -> dict[str, Any]:
        """`get /path` → its operation, for all that is documented."""
        return {
            f"{method} {path}": item[method]
            for path, item in self.document["paths"].items()
            for method in METHODS
            if method in item
        }

    def ask(self, person: Person, route: str, ids: dict[str, str], given: Try, **headers: str) -> Any:
        method, path = route.split(" ")

        def filled(value: Any) -> Any:
            if isinstance(value, str):
                for name, known in ids.items():
                    value = value.replace(f"{{{name}}}", known)
                return value
            if isinstance(value, Mapping):
                return {name: filled(one) for name, one in value.items()}
            return [filled(one) for one in value] if isinstance(value, list) else value

        how = {} if given.body is None else {"json": filled(given.body)}
        return self.client.request(
            method,
            filled(path),
            params=filled(given.query),
            headers={**person.headers, "x-request-id": "same", **headers},
            **how,
        )

    def live(self, person: Person, mark: str) -> dict[str, str]:
        """Do everything that there is to do, in words with this mark; returns the ids that came of it."""
        ids = {**UNKNOWN, "mark": mark, "idempotency_key": f"{mark}s-own-key"}

        def done(route: str, body: Any = None, **more: str) -> Any:
            given = WALK[route] if body is None else WALK[route]._replace(body=body)
            known = {**ids, **more}
            answer = self.ask(person, route, known, given, **{"Idempotency-Key": known["idempotency_key"]})
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None

        done("put /api/v1/me/moderation-config", {"ai_adult_general": False})
        done("post /api/v1/webhook/register")
        done("post /api/v1/me/webhook-secrets/rotate")
        category = done("post /api/v1/me/custom-categories")
        ids["category_id"] = category["category_id"]
        change = {"name": f"{mark} changed", "description": f"for {mark} only", "enabled": True}
        done("put /api/v1/me/custom-categories/{category_id}", change)
        jobs = [done(f"post /api/v1/moderate/{kind}")["job_id"] for kind in ("text", "image", "video", "prompt")]
        ids["job_id"] = jobs[-1]
        batch = done("post /api/v1/moderate/text/batch")
        ids["batch_id"] = batch["batch_id"]
        jobs.append(done("post /api/v1/moderate/prompt", {"prompt": f"{mark} asks"}, idempotency_key=mark)["job_id"])
        for job_id in jobs[-2:]:
            self._close(job_id, mark)
        self.till.customer(person.org_id)
        ids["payment_method_id"] = self.till.automatic(person.org_id)
        done("post /api/v1/billing/checkout-session")
        self._earn(person, mark)
        ids["policy"] = self._govern(person, mark)
        ids["model_id"] = f"customhouse/{ids['policy']}"
        ask = Ask("A lighthouse at dawn", "omnimod", metadata={"external_id": f"{mark}s-comment"})
        (ids["event"],) = decided.record(self.house, person, decided.asked(ask=ask))
        ids["token"] = person.key_id
        ids["blocklist_name"], ids["item_id"] = f"{mark}s-list", self._list(person, mark)
        return ids

    def _close(self, job_id: str, mark: str) -> None:
        """As the worker does, with a webhook to be delivered."""
        finding = Finding(categories={}, is_prohibited=True, reason=f"{mark} said it")

        def change(conn: Connection) -> None:
            conn.execute(
                "UPDATE child SET status = 'completed', finding = :finding WHERE job_id = :job_id",
                {"finding": msgspec.json.encode(finding).decode(), "job_id": job_id},
            )
            advance.close_if_done(conn, self.house.settings, job_id, clock.now_ms())

        self.house.db.write(change)

    def _earn(self, person: Person, mark: str) -> None:
        def change(conn: Connection) -> None:
            for number in range(3):
                ledger.post(
                    conn,
                    person.org_id,
                    EntryType.CREDIT,
                    1_000_000 + number,
                    source=("manual", f"{mark}-{number}"),
                    description=f"given to {mark}",
                    now=clock.now_ms(),
                )

        self.house.db.write(change)

    def _list(self, person: Person, mark: str) -> str:
        """A blocklist by name, with an item."""
        path = f"/contentsafety/text/blocklists/{mark}s-list"
        assert self.client.patch(path, params=AZURE, headers=person.headers, json={}).status_code == 201
        added = self.client.post(
            f"{path}:addOrUpdateBlocklistItems",
            params=AZURE,
            headers=person.headers,
            json={"blocklistItems": [{"text": f"{mark} lists it"}]},
        )
        return added.json()["blocklistItems"][0]["blocklistItemId"]

    def _govern(self, person: Person, mark: str) -> str:
        """A policy of their own, and the default one beside it."""
        folder = self.house.settings.policies_dir

        def change(conn: Connection) -> str:
            by = By(f"key:{person.key_id}", f"{mark} wants it")
            slug, name = f"{mark}s-policy", f"{mark} governs"
            return policies.create(conn, person.org_id, slug, name, {}, ANALYZERS, folder, by).slug

        return self.house.db.write(change)

    def lists(self) -> dict[str, tuple[int, bytes]]:
        """What Charlie sees where no id is asked for."""
        return {
            route: (answer.status_code, answer.content)
            for route, given in WALK.items()
            if route.startswith("get ") and "{" not in route + str(given.query)
            for answer in [self.ask(self.charlie, route, UNKNOWN, given)]
        }

    def rows_of(self, person: Person) -> dict[str, list[tuple[Any, ...]]]:
        """Every row that names the organisation, a job of it, or another row of it; but not when its keys were used."""
        conn = self.house.db.reader()
        found: dict[str, list[tuple[Any, ...]]] = {}
        tables = [row["name"] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            columns = [row["name"] for row in conn.execute(f"PRAGMA table_info({table})")]
            where = self._ownership(conn, table, columns)
            if where is not None:
                wanted = ", ".join(name for name in columns if name != "last_used_at")
                selected = conn.execute(f"SELECT {wanted} FROM {table} WHERE {where}", {"org": person.org_id})
                found[table] = sorted((tuple(row) for row in selected), key=repr)
        return found

    def _ownership(self, conn: Connection, table: str, columns: list[str]) -> str | None:
        """Which rows of a table are an organisation's; None when it has nobody's."""
        if table == "organisation":
            return "id = :org"
        if "org_id" in columns:
            return "org_id = :org"
        if "job_id" in columns:
            return "job_id IN (SELECT id FROM job WHERE org_id = :org)"
        for key in conn.execute(f"PRAGMA foreign_key_list({table})"):
            owner = [row["name"] for row in conn.execute(f"PRAGMA table_info({key['table']})")]
            where = self._ownership(conn, key["table"], owner)
            if where is not None:
                return f"{key['from']} IN (SELECT {key['to']} FROM {key['table']} WHERE {where})"
        return None

    def values_of(self, person: Person) -> set[str]:
        """Every text in those rows that is long enough to be told from others."""
        values = {value for each in self.rows_of(person).values() for row in each for value in row}
        return {value for value in values if isinstance(value, str) and len(value) >= 5}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for all: Alice does nothing more, and what Charlie changes is his own."""
    noon = datetime.fromisoformat("2026-05-19T12:00:00Z")
    plain = Settings(home=tmp_path_factory.mktemp("isolation") / "home", limits=UNHURRIED)
    with pytest.MonkeyPatch.context() as patch, faking(patch) as served:
        patch.setattr(clock, "now", lambda: noon)
        settings = replace(leading_to(plain, served), inference=Inference(vision_judge="eyes", text_judge="reader"))
        house = House(settings)
        with TestClient(create_app(house), raise_server_exceptions=True) as client:
            till = Till(house, served)
            yield Scene(client, house, till)
            till.close()


def test_every_route_of_the_document_is_walked(scene: Scene) -> None:
    tenants = {route for route in scene.routes if ADMIN not in route and ORGS not in route}
    assert tenants == set(WALK) | OPEN
    for route in WALK:
        _, path = route.split(" ")
        names = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert names <= set(scene.theirs), f"{route}: the scene has no such id of Alice's"
        assert all(scene.theirs[name] != UNKNOWN[name] for name in names)


def test_the_scene_has_something_to_leak(scene: Scene) -> None:
    """Were it empty, the walk would prove nothing."""
    filled = {table for table, found in scene.rows_before.items() if found}
    assert filled >= {
        "organisation", "api_key", "job", "child", "job_content", "batch", "custom_category", "delivery",
        "custom_category_version", "webhook_endpoint", "webhook_secret", "idempotency", "ledger", "payment_method",
        "topup_intent", "auto_topup", "audit",
    }  # fmt: skip
    assert {scene.theirs[name] for name in ("job_id", "batch_id", "category_id", "payment_method_id")} <= scene.traces
    assert any("alice asks" in trace for trace in scene.traces)


def test_what_one_tenant_did_shows_in_no_list_of_another(scene: Scene) -> None:
    assert scene.seen_after == scene.seen_before


@pytest.mark.parametrize("route", WALK)
def test_anothers_ids_are_answered_as_unknown_ones_and_change_nothing(scene: Scene, route: str) -> None:
    given = WALK[route]
    answers = []
    for ids in (scene.theirs, UNKNOWN):
        key = {"Idempotency-Key": ids["idempotency_key"]} if route.startswith("post") else {}
        answers.append(scene.ask(scene.charlie, route, ids, given, **key))
    theirs, unknown = answers
    assert (theirs.status_code, unknown.status_code) == (given.status, given.status), theirs.text + unknown.text
    assert "idempotent-replayed" not in theirs.headers
    if given.is_own:
        assert set(theirs.json()) == set(unknown.json())
    else:
        assert theirs.content == unknown.content
        names = set(theirs.headers) - {"x-ratelimit-remaining"}
        assert {name: theirs.headers[name] for name in names} == {name: unknown.headers[name] for name in names}
    said = theirs.text + str(dict(theirs.headers))
    sent = _plain(str(theirs.request.url) + theirs.request.content.decode())  # his own words may come back
    assert [trace for trace in scene.traces if trace in said and _plain(trace) not in sent] == []
    assert scene.rows_of(scene.alice) == scene.rows_before


def _plain(text: str) -> str:
    """Words alone: a name comes back as a slug, too."""
    return re.sub("[^a-z0-9]+", " ", text.lower())


def test_what_needs_no_key_says_nothing_of_anybody(scene: Scene) -> None:
    for route in [*OPEN, "get /schema/openapi.json", "get /docs"]:
        method, path = route.split(" ")
        said = scene.client.request(method, path).text
        assert [trace for trace in scene.traces if trace in said] == []


def test_a_cursor_leads_only_its_owner_on(scene: Scene) -> None:
    records = "/api/v1/billing/records"
    page = scene.client.get(records, params={"limit": 1}, headers=scene.alice.headers).json()
    answer = scene.client.get(records, params={"cursor": page["next_cursor"]}, headers=scene.charlie.headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert [trace for trace in scene.traces if trace in answer.text] == []


@pytest.mark.parametrize("is_on_network", [False, True])
def test_no_tenants_key_administers(settings: Settings, client_with: Any, is_on_network: bool) -> None:
    """With every scope but admin:config: the path is not there, or the scope is missing; never anything else."""
    client, house = client_with(replace(settings, server=Server(admin_on_network=is_on_network)))
    charlie = enrol(house, "Charlie's", "k", granted=TENANT)
    alice = enrol(house, "Alice's", "k", granted=TENANT)
    document = client.get("/schema/openapi.json").json()["paths"]
    walked = 0
    for path, item in document.items():
        for method in METHODS:
            if not path.startswith((ADMIN, ORGS)) or method not in item:
                continue
            filled = path.replace("{client_id}", alice.org_id).replace("{key_id}", alice.key_id)
            filled = filled.replace("{org}", alice.org_id).replace("{policy}", "community-default")
            answer = client.request(method, filled, headers=charlie.headers)
            expected = (403, "FORBIDDEN") if is_on_network else (404, "NOT_FOUND")
            assert (answer.status_code, answer.json()["error"]) == expected, f"{method} {path}"
            walked += 1
    assert walked > 20
    assert keys.find(house.db.reader(), alice.key_id).revoked_at is None
