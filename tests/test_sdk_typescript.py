"""The TypeScript client, compiled under --strict and run by node: against a running Customhouse with real weights, a
server that fails on purpose, and the document that the server gives out."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from standardwebhooks.webhooks import Webhook

from appliance import __version__
from tests import nodes
from tests.cast import enrol
from tests.flaky import Flaky, Line, Reply
from tests.sdks import Asked, Document
from tests.test_end_to_end import CLIP, PHOTOGRAPHS, WEIGHTS, Box
from tests.test_sdk_python import SECRET, delivered, free_port, signed

SDK = Path(__file__).resolve().parent.parent / "sdk" / "typescript"
ACCEPTED = Reply(202, {"job_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "status": "queued"})
OTHER_SECRET = "whsec_" + base64.b64encode(b"f" * 32).decode()
TENANT = ("moderate:prompt", "moderate:image", "moderate:video", "job:read", "usage:read", "account:config")
LIMITED = {"error": "RATE_LIMITED", "message": "Rate limit exceeded", "statusCode": 429, "request_id": "req_1"}


def tsc(*arguments: str) -> str:
    """What the compiler says: nothing, when all is well."""
    folder = Path(os.environ.get("CUSTOMHOUSE_TEST_NODE", SDK.parent.parent / ".customhouse" / "node"))
    compiler = folder / "node_modules/typescript/bin/tsc"
    if not compiler.is_file() or shutil.which("node") is None:
        pytest.fail("CUSTOMHOUSE_TEST_NODE names no folder with typescript; ./install.sh test sets it")
    done = subprocess.run(["node", compiler, *arguments], capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is published: its manifest, and what the compiler makes of its sources."""
    folder = tmp_path_factory.mktemp("project") / "node_modules" / "@customhouse" / "client"
    assert tsc("-p", str(SDK), "--outDir", str(folder / "dist")) == ""
    shutil.copyfile(SDK / "package.json", folder / "package.json")
    return folder


@pytest.fixture(scope="module")
def client_url(package: Path) -> str:
    return (package / "dist" / "index.js").as_uri()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if WEIGHTS is None:
        pytest.skip("CUSTOMHOUSE_TEST_WEIGHTS is not set; ./install.sh test sets it")
    one = Box(tmp_path_factory.mktemp("home"))
    yield one
    one.close()


# --- against the running server --------------------------------------------------------------------------------------


@pytest.mark.weights
def test_everything_that_it_does_is_done_by_a_running_customhouse(box: Box, client_url: str) -> None:
    assert CLIP is not None
    url = str(box.http.base_url)
    key = enrol(box.house, "alice", "node", granted=TENANT).key
    said = nodes.run(
        "sdk_box.mjs", 120, client=client_url, url=url, key=key, picture=str(PHOTOGRAPHS[0]), clip=str(CLIP)
    )
    progress = said.pop("progress")
    assert (progress[-1], progress) == (100, sorted(progress))
    assert said == {
        "plain": ["completed", False],
        "prohibited": ["completed", True],
        "pictures": [["completed", False]] * 4,
        "batch": {"a": False, "b": True},
        "listed": 1,
        "csv": True,
        "month": True,
        "once": True,
        "decision": ["allow", "none", "text"],
        "picture": "allow",
        "off": {"nsfw": False},
        "on": {},
        "policy": True,
        "event": True,
        "quota": True,
        "missing": [True, "JOB_NOT_FOUND", 404, True],
        "empty": True,
        "half": True,
        "noPolicy": True,
        "stranger": True,
        "health": "ok",
    }


# --- against one that fails ------------------------------------------------------------------------------------------


def acted(client_url: str, act: str, *script: Line, **given: Any) -> tuple[dict[str, Any], Flaky]:
    with Flaky(*script) as server:
        return nodes.run("sdk_flaky.mjs", client=client_url, url=server.url, act=act, **given), server


def test_429_and_503_are_tried_again_when_the_server_says(client_url: str) -> None:
    soon = {"retry-after": "1"}
    full = Reply(503, {"error": "SERVICE_UNAVAILABLE", "message": "full"}, soon)
    said, server = acted(client_url, "text", Reply(429, LIMITED, soon), full, ACCEPTED)
    assert said["answer"]["status"] == "queued"
    assert len(server.asked) == 3
    said, server = acted(client_url, "text", Reply(429, LIMITED, {"retry-after": "3600"}))
    assert (said["name"], said["retryAfterSeconds"], len(server.asked)) == ("RateLimited", 3600, 1)
    said, server = acted(client_url, "list", full, full, retries=1)
    assert (said["name"], said["code"], len(server.asked)) == ("ServiceUnavailable", "SERVICE_UNAVAILABLE", 2)


@pytest.mark.parametrize("breaks", ["reset", "hang up"])
def test_a_lost_answer_is_asked_for_under_the_same_idempotency_key(client_url: str, breaks: Any) -> None:
    said, server = acted(client_url, "picture", breaks, ACCEPTED)
    assert said["answer"]["status"] == "queued"
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    assert all(b"A" * 100_000 in asked.body and b"a.png" in asked.body for asked in server.asked)
    said, server = acted(client_url, "rotate", breaks)
    assert (said["name"], len(server.asked)) == ("ConnectionFailed", 1)


def test_a_request_still_at_work_is_waited_for_after_a_lost_answer(client_url: str) -> None:
    conflict = Reply(409, {"error": "CONFLICT", "message": "still being answered"})
    said, _ = acted(client_url, "text", "hang up", conflict, ACCEPTED)
    assert said["answer"]["status"] == "queued"
    said, server = acted(client_url, "text", conflict)
    assert (said["name"], len(server.asked)) == ("Conflict", 1)


def test_a_spent_quota_is_not_waited_for(client_url: str) -> None:
    quota = {"code": "quota_exceeded", "message": "Monthly moderation quota exceeded", "plan_tier": "free"}
    said, server = acted(client_url, "moderate", Reply(429, {"detail": quota}, {"retry-after": "1"}))
    assert (said["name"], said["code"], len(server.asked)) == ("QuotaExceeded", "QUOTA_EXCEEDED", 1)


def test_a_broken_stream_goes_on_after_its_last_event(client_url: str) -> None:
    def event(number: int, status: str, progress: int) -> str:
        state = {"job_id": "j", "status": status, "progress": progress, "detail": "é"}
        return f"retry: 10\nid: {number}\nevent: progress\ndata: {json.dumps(state, ensure_ascii=False)}\n\n"

    first = Reply(events=(": keepalive\n\n", event(1, "queued", 0), event(2, "processing", 50), "id: 3\nda"))
    second = Reply(events=(event(3, "processing", 50), event(4, "completed", 100)))
    said, server = acted(client_url, "progress", first, second)
    assert said == {"answer": [0, 50, 100]}
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "2"]
    said, server = acted(client_url, "progress", *[Reply(events=("retry: 10\n\n",))] * 4)
    assert (said["name"], len(server.asked)) == ("ConnectionFailed", 4)


def test_waiting_ends_when_its_time_is_over_or_the_caller_gives_up(client_url: str) -> None:
    job = {"job_id": "j", "type": "prompt", "status": "queued", "is_prohibited": None, "categories": {}}
    for act, name in (("wait", "WaitTimedOut"), ("abort", "TimeoutError")):
        said, server = acted(client_url, act, *[Reply(200, job)] * 20)
        assert said["name"] == name
        assert len(server.asked) < 10


def test_a_refused_connection_says_its_key(client_url: str) -> None:
    with Flaky() as server:
        url = server.url
    said = nodes.run("sdk_flaky.mjs", client=client_url, url=url, act="text", retries=0)
    assert said["name"] == "ConnectionFailed"
    assert said["idempotencyKey"]


# --- webhooks --------------------------------------------------------------------------------------------------------


def test_deliveries_are_verified_as_the_official_library_signs_them(client_url: str) -> None:
    secret, other = ("whsec_" + base64.b64encode(one * 32).decode() for one in (b"a", b"b"))
    body = json.dumps({"job_id": "j", "is_prohibited": None, "delivery_id": "wh_j", "reason": "naïve"})
    now = datetime.now(UTC)

    def given(**change: Any) -> dict[str, Any]:
        at = change.pop("at", now)
        signature = Webhook(change.pop("signed_with", secret)).sign(msg_id="wh_j", timestamp=at, data=body)
        headers = {"Webhook-Id": "wh_j", "Webhook-Timestamp": str(int(at.timestamp()))}
        headers |= {"Webhook-Signature": f"v1a,x v1,{base64.b64encode(b'?').decode()} v1,§ {signature}"}
        headers |= change.pop("headers", {})
        return {"body": body, "headers": headers, "secret": secret, "as": "text", **change}

    deliveries = [
        given(),
        given(**{"as": "bytes", "headers": {"Webhook-Signature": Webhook(secret).sign("wh_j", now, body)}}),
        given(signed_with=other),
        given(secret="whsec_§"),
        given(at=now - timedelta(seconds=301)),
        given(body=body.replace("null", "false")),
        given(headers={"Webhook-Id": "wh_2"}),
        given(headers={"Webhook-Signature": ""}),
        given(headers={"Webhook-Timestamp": "soon"}),
    ]
    said = nodes.run("sdk_webhooks.mjs", client=client_url, deliveries=deliveries)
    assert said == ["wh_j"] * 2 + ["WebhookRefused"] * 7


# --- the document ----------------------------------------------------------------------------------------------------


@pytest.fixture
def document(client: TestClient[Any]) -> Document:
    return Document(client.get("/schema/openapi.json").json())


def test_what_it_sends_is_documented_and_no_route_of_its_groups_is_left_out(
    document: Document, client_url: str
) -> None:
    said = nodes.run("sdk_calls.mjs", client=client_url)
    asked = msgspec.convert(said["asked"], list[Asked])
    assert {one.name for one in asked} == set(said["methods"])  # every method was called
    assert [fault for one in asked for fault in document.faults(one)] == []
    assert document.unasked(asked) == set()


def test_what_it_reads_is_documented(document: Document, client_url: str, package: Path) -> None:
    """The document's schemas, as TypeScript, are assignable to the types of the answers: the compiler says so."""
    said = nodes.run("sdk_calls.mjs", client=client_url)
    first = {one.name: one for one in reversed(msgspec.convert(said["asked"], list[Asked]))}
    lines = [
        'import type { Customhouse } from "@customhouse/client";',
        "type Answer<F> = F extends (...given: never[]) => Promise<infer T> ? T : never;",
        "export function take<T>(_: T): void {}",
    ]
    compared = 0
    for name, asked in first.items():
        schema = document.answer(asked)
        if schema is None:
            continue
        path = "".join(f'["{part}"]' for part in name.split("."))
        documented = document.typescript(schema)
        lines.append(f"take<Answer<Customhouse{path}>>(null! as {documented});")
        compared += 1
    assert compared > 30
    wrong = "take<{ invented: string }>(null! as { job_id: string });"
    where = package.parent.parent.parent / "check"
    where.mkdir(exist_ok=True)
    assert checked(where, lines) == ""
    assert "invented" in checked(where, [*lines, wrong])  # a check that could not fail would prove nothing


def checked(where: Path, lines: list[str]) -> str:
    """What the compiler says of these lines, written by a user of the package who is as strict as it can be."""
    (where / "package.json").write_text('{"type": "module"}')
    (where / "check.ts").write_text("\n".join(lines))
    options: dict[str, Any] = {"target": "ES2022", "module": "NodeNext", "lib": ["ES2022", "DOM", "DOM.Iterable"]}
    options |= {"types": [], "strict": True, "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True}
    (where / "tsconfig.json").write_text(json.dumps({"compilerOptions": {**options, "noEmit": True}}))
    return tsc("-p", str(where))


# --- the package -----------------------------------------------------------------------------------------------------


def test_nothing_is_imported_that_a_browser_does_not_have(package: Path) -> None:
    sources = [path.read_text() for path in (package / "dist").glob("*.js")]
    imported = {name for text in sources for name in re.findall(r'(?:from|import)\s*\(?\s*"([^"]+)"', text)}
    assert imported
    assert all(name.startswith("./") for name in imported)
    manifest = json.loads((SDK / "package.json").read_text())
    assert "dependencies" not in manifest
    assert manifest["version"] == __version__
    assert f'VERSION = "{__version__}"' in (SDK / "src" / "transport.ts").read_text()


# --- the README ------------------------------------------------------------------------------------------------------


def blocks() -> list[str]:
    return re.findall(r"```js\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)


def started(package: Path, program: str, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
    """A program in a project that has the package installed."""
    project = package.parent.parent.parent
    script = project / f"{hashlib.sha256(program.encode()).hexdigest()[:8]}.mjs"
    script.write_text(program)
    return subprocess.Popen(
        ["node", script, *arguments], env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.weights
def test_the_programs_in_the_readme_run(box: Box, package: Path) -> None:
    environ = {"CUSTOMHOUSE_API_KEY": box.key, "CUSTOMHOUSE_BASE_URL": str(box.http.base_url)}
    said: list[str] = []
    for block in blocks():
        if "createServer" not in block:
            program = started(package, block, str(PHOTOGRAPHS[0]), **environ)
            said.append(program.communicate(timeout=60)[0])
            assert program.returncode == 0
    decided, followed, refused = said
    assert decided == "allow none\nallowed\n"
    assert "100" in followed
    assert "nsfw: false" in followed
    assert refused.startswith("INVALID_REQUEST [ { field: 'text'")


def test_the_receiver_in_the_readme_takes_what_is_signed(package: Path) -> None:
    [program] = [block for block in blocks() if "createServer" in block]
    body = json.dumps({"delivery_id": "wh_j", "status": "completed"})
    for secret, status, printed in ((SECRET, 204, "wh_j completed\n"), (OTHER_SECRET, 400, "")):
        port = free_port()
        receiver = started(package, program, CUSTOMHOUSE_WEBHOOK_SECRET=secret, PORT=str(port))
        assert delivered(port, body, signed(body, datetime.now(UTC))) == status
        assert receiver.communicate(timeout=20)[0] == printed
