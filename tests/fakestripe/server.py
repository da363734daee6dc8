"""The wire: requests in bracket form, lists with cursors, idempotency keys, errors, faults."""

import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.fakestripe import known
from tests.fakestripe.account import DAY, Account, Object, Refused, missing, shown

MOST_TYPES = 20
MOST_LISTED = 100


class Request(NamedTuple):
    method: str
    path: str
    params: dict[str, Any]
    key: str
    """Its Idempotency-Key."""
    headers: dict[str, str]


class Fault(NamedTuple):
    """What goes wrong with the next requests whose method and path begin so.

    kind: `lost` = done, but the answer never comes; `unreached` = not done, and no answer; `held` = done, and the
    answer waits for `released`; or a status, not done."""

    kind: str
    start: str


class Served:
    """The account at an address. `asked` is every request that came, in order."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.address = ""
        self.asked: list[Request] = []
        self.faults: list[Fault] = []
        self.replayed: list[str] = []
        self.holding = threading.Event()
        self.released = threading.Event()
        self._kept: dict[str, tuple[Any, int, Object, int]] = {}

    def fail(self, kind: str, start: str = "", times: int = 1) -> None:
        self.faults += [Fault(kind, start)] * times

    def paths(self, start: str = "") -> list[str]:
        """`METHOD /path` of what was asked, those that begin so."""
        lines = [f"{one.method} {one.path}" for one in self.asked]
        return [line for line in lines if line.startswith(start)]

    def answer(self, request: Request) -> tuple[int, Object, dict[str, str]] | None:
        """Status, body and headers; None = the connection ends without an answer."""
        with self.account.lock:
            self.asked.append(request)
            fault = next((one for one in self.faults if f"{request.method} {request.path}".startswith(one.start)), None)
            if fault is not None:
                self.faults.remove(fault)
                if fault.kind == "unreached":
                    return None
                if fault.kind not in ("lost", "held"):
                    return int(fault.kind), _error("api_error", "Something went wrong"), {}
            answer = self._once(request)
        if fault is not None and fault.kind == "held":
            self.holding.set()
            self.released.wait(30)
            return answer
        return None if fault is not None else answer

    def _once(self, request: Request) -> tuple[int, Object, dict[str, str]]:
        """By its idempotency key the same request is done once; for a day. What was refused before it began is not
        kept."""
        now = self.account.now()
        what = (request.method, request.path, request.params)
        kept = self._kept.get(request.key) if request.key else None
        if kept is not None and now - kept[3] < DAY:
            if kept[0] != what:
                return (
                    400,
                    _error(
                        "idempotency_error",
                        "Keys for idempotent requests can only be used with the same parameters they were first used "
                        "with.",
                    ),
                    {},
                )
            self.replayed.append(request.key)
            return kept[1], kept[2], {"Idempotent-Replayed": "true"}
        try:
            status, body = 200, shown(self._do(request))
        except Refused as refused:
            status, body = refused.status, {"error": refused.error}
        if request.method == "POST" and request.key and status in (200, 402):
            self._kept[request.key] = (what, status, body, now)
        return status, body, {}

    def _do(self, request: Request) -> Object:
        kind = known.route(request.method, request.path)
        if kind is None:
            raise Refused(404, "invalid_request_error", f"Unrecognized request URL ({request.method}: {request.path}).")
        names = known.unknown(request.params, kind)
        if names:
            raise Refused(
                400,
                "invalid_request_error",
                f"Received unknown parameter: {names[0]}",
                code="parameter_unknown",
                param=names[0],
            )
        parts = request.path.split("/")[2:]
        return self._route(request.method, parts, request.params)

    def _route(self, method: str, parts: list[str], given: dict[str, Any]) -> Object:
        account = self.account
        match method, parts:
            case "POST", ["customers"]:
                return account.create_customer(given)
            case "GET", ["customers", id]:
                return _get(account.customers, "customer", id)
            case "GET", ["payment_methods"]:
                return _listed(account.cards, given, "customer", "type")
            case "POST", ["payment_methods", id, "detach"]:
                return account.detach(id)
            case "POST", ["checkout", "sessions"]:
                return account.create_session(given)
            case "GET", ["checkout", "sessions"]:
                return _listed(account.sessions, given, "customer", "payment_intent", "status")
            case "GET", ["checkout", "sessions", id]:
                return self._expanded(_get(account.sessions, "checkout.session", id), given)
            case "POST", ["billing_portal", "sessions"]:
                return account.create_portal(given)
            case "POST", ["payment_intents"]:
                return account.create_intent(given)
            case "GET", ["payment_intents"]:
                return _listed(account.intents, given, "customer")
            case "GET", ["payment_intents", id]:
                return _get(account.intents, "payment_intent", id)
            case "POST", ["payment_intents", id, "cancel"]:
                return account.cancel_intent(id)
            case "GET", ["charges"]:
                return _listed(account.charges, given, "customer", "payment_intent")
            case "GET", ["refunds"]:
                return _listed(account.refunds, given, "payment_intent", "charge")
            case "GET", ["disputes"]:
                return _listed(account.disputes, given, "payment_intent", "charge")
            case "GET", ["disputes", id]:
                return _get(account.disputes, "dispute", id)
            case "GET", ["subscriptions"]:
                wanted = given.get("status")
                found = {
                    id: one
                    for id, one in account.subscriptions.items()
                    if wanted == "all" or one["status"] == (wanted or one["status"]) != "canceled"
                }
                return _listed(found, given, "customer")
            case "GET", ["subscriptions", id]:
                return _get(account.subscriptions, "subscription", id)
            case "GET", ["events"]:
                return self._events(given)
            case _:
                raise AssertionError(f"{method} {parts} is in known.ROUTES, but not done")

    def _events(self, given: dict[str, Any]) -> Object:
        types = given.get("types") or ([given["type"]] if "type" in given else [])
        if len(types) > MOST_TYPES:
            raise Refused(400, "invalid_request_error", f"You can filter by at most {MOST_TYPES} types", param="types")
        if "types" in given and "type" in given:
            raise Refused(400, "invalid_request_error", "You may pass either `type` or `types`, but not both")
        rows = self.account.visible_events()
        for name in ("starting_after", "ending_before"):
            if name in given and given[name] not in {row["id"] for row in rows}:
                raise missing("event", given[name], name, 400)
        low = int(given.get("created", {}).get("gte", 0)) if isinstance(given.get("created"), dict) else 0
        wanted = [row for row in rows if row["created"] >= low and (not types or row["type"] in types)]
        return _page(rows, wanted, given, "/v1/events")

    def _expanded(self, session: Object, given: dict[str, Any]) -> Object:
        if "payment_intent" in given.get("expand", []) and session["payment_intent"]:
            return session | {"payment_intent": shown(self.account.intents[session["payment_intent"]])}
        return session


def _get(rows: dict[str, Object], kind: str, id: str) -> Object:
    if id not in rows:
        raise missing(kind, id)
    return rows[id]


def _listed(rows: dict[str, Object], given: dict[str, Any], *filters: str) -> Object:
    ordered = sorted(rows.values(), key=lambda one: one["_seq"], reverse=True)
    wanted = [
        row
        for row in ordered
        if all(row.get(name) == given[name] for name in filters if name in given and name != "status")
    ]
    return _page(ordered, wanted, given, "/v1/list")


def _page(rows: list[Object], wanted: list[Object], given: dict[str, Any], url: str) -> Object:
    """Newest first. `ending_before` gives the page that is next to the cursor on its newer side."""
    limit = int(given.get("limit", 10))
    if not 1 <= limit <= MOST_LISTED:
        raise Refused(400, "invalid_request_error", "This value must be between 1 and 100", param="limit")
    place = {row["id"]: at for at, row in enumerate(rows)}
    if "ending_before" in given:
        newer = [row for row in wanted if place[row["id"]] < place[given["ending_before"]]]
        found, has_more = newer[-limit:], len(newer) > limit
    else:
        after = place[given["starting_after"]] if "starting_after" in given else -1
        older = [row for row in wanted if place[row["id"]] > after]
        found, has_more = older[:limit], len(older) > limit
    return {"object": "list", "url": url, "has_more": has_more, "data": [shown(row) for row in found]}


def _error(type: str, message: str) -> Object:
    return {"error": {"type": type, "message": message}}


def decode(query: str) -> dict[str, Any]:
    """`a[b]=1&c[0][d]=2` → {"a": {"b": "1"}, "c": [{"d": "2"}]}"""
    tree: dict[str, Any] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
        head, *rest = re.findall(r"[^\[\]]+", name)
        node = tree
        for part, following in zip([head, *rest], rest, strict=False):
            node = node.setdefault(part, {})
            assert isinstance(node, dict), following
        node[[head, *rest][-1]] = value
    return {name: _lists(value) for name, value in tree.items()}


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(one) for name, one in value.items()}
    if inner and all(name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner


@contextmanager
def serving(account: Account | None = None) -> Iterator[Served]:
    served = Served(account or Account())
    pay: dict[str, Callable[[str], object]] = {
        "complete": served.account.pay,
        "expire": served.account.expire,
        "async": lambda id: served.account.pay(id, is_slow=True),
        "async_succeed": served.account.come_through,
        "async_fail": lambda id: served.account.come_through(id, is_good=False),
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            self._handle(path, query)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            if self.path.startswith("/_pay/"):  # the page itself, for who is in another process
                session_id, _, outcome = self.path.removeprefix("/_pay/").partition("?outcome=")
                pay[outcome or "complete"](session_id)
                return self._send(200, {}, {})
            self._handle(self.path, body)

        def _handle(self, path: str, query: str) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not re.fullmatch(r"Bearer (rk|sk)_test_\w+", headers.get("authorization", "")):
                return self._send(401, _error("invalid_request_error", "Invalid API Key provided"), {})
            answer = served.answer(
                Request(self.command, path, decode(query), headers.get("idempotency-key", ""), headers)
            )
            if answer is None:
                self.close_connection = True
                return None
            return self._send(*answer)

        def _send(self, status: int, body: Object, headers: dict[str, str]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(content)),
                "request-id": "req_fake",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
