"""What the documents promise is what there is: settings, errors, categories, commands, endpoints, manifests."""

import base64
import importlib
import json
import re
import shlex
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient
from standardwebhooks import Webhook

from appliance import categories, errors, settings
from appliance.__main__ import COMMANDS, root
from appliance.accounts import organisations
from appliance.house import House
from appliance.inference import manifest
from appliance.settings import Settings
from tests import recorded

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = ROOT / "config/customhouse.toml"
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/manifest.toml"))


# --- settings ------------------------------------------------------------------------------------------------------


def _keys() -> Iterator[tuple[str, str]]:
    """(section, key) of every setting; the section is empty at the top."""
    for field in msgspec.structs.fields(Settings):
        if isinstance(field.default, msgspec.Struct):
            for inner in msgspec.structs.fields(type(field.default)):
                yield field.name, inner.name
        else:
            yield "", field.name


def test_the_file_that_shows_every_setting_is_usable_and_holds_the_defaults() -> None:
    assert settings.load(SHOWN, environ={}) == Settings()


@pytest.mark.parametrize(("section", "key"), list(_keys()))
def test_every_setting_is_shown_with_a_reason_above_it(section: str, key: str) -> None:
    lines = SHOWN.read_text().splitlines()
    start = lines.index(f"[{section}]") if section else 0
    places = [at for at in range(start, len(lines)) if re.match(rf"(# )?{key} = ", lines[at])]
    assert places, f"{section}.{key} is not in {SHOWN.name}"
    assert lines[places[0] - 1].startswith("# "), f"{section}.{key} has no reason above it"


def test_every_value_shown_is_written_out() -> None:
    """A section that is only named would show nothing of its defaults."""
    shown = tomllib.loads(SHOWN.read_text())
    for section, key in _keys():
        if section:
            assert key in shown[section], f"{section}.{key}"


# --- errors, categories, commands, endpoints -------------------------------------------------------------------------


def _below(kind: type) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


@pytest.mark.parametrize("refusal", list(_below(errors.Refusal)), ids=lambda kind: kind.__name__)
def test_every_error_of_the_api_stands_in_the_readme(refusal: type[errors.Refusal]) -> None:
    assert re.search(rf"\| `{refusal.code}` \| {refusal.status} \|", README)


@pytest.mark.parametrize("failure", list(_below(errors.Failure)), ids=lambda kind: kind.__name__)
def test_every_reason_a_job_fails_for_stands_in_the_readme(failure: type[errors.Failure]) -> None:
    assert f"`{failure.error_code}`" in README


_OF_THE_HOUSE = [kind for kind in _below(errors.CustomhouseError) if kind.__module__ == errors.__name__]
"""A subject's own errors are caught in it; which of them are imported here depends on what other tests import."""


@pytest.mark.parametrize("kind", _OF_THE_HOUSE, ids=lambda kind: kind.__name__)
def test_the_tree_of_errors_is_drawn_as_it_is(kind: type) -> None:
    assert re.search(rf"── {kind.__name__}\b", errors.__doc__ or "")


def test_every_category_and_what_answers_it_stands_in_the_readme() -> None:
    for slug, category in categories.load(ROOT / "config/categories.toml").items():
        assert f"`{slug}`" in README
        for source in category.sources:
            assert f"`{source.model}`" in README, f"{slug} is answered by {source.model}"


def _commands() -> Iterator[str]:
    for name, (path, _) in COMMANDS.items():
        module, attribute = path.split(":")
        yield from _leaves(name, getattr(importlib.import_module(module), attribute))


def _leaves(name: str, command: click.Command) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield name
        return
    for inner, below in command.commands.items():
        yield from _leaves(f"{name} {inner}", below)


def test_every_command_stands_in_the_readme() -> None:
    missing = [command for command in _commands() if f"customhouse {command}" not in README]
    assert missing == []


def test_the_commands_of_the_readme_run_as_they_stand(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(house.settings.home))
    for name in ("demo", "acme"):
        house.db.write(lambda conn, name=name: organisations.create(conn, name))
    shown = re.findall(
        r"^customhouse ((?:policies|plans|organisations|billing|steps|blocklist) .*)$", README, re.MULTILINE
    )
    assert len(shown) >= 7
    for line in shown:
        ran = CliRunner().invoke(root, shlex.split(line, comments=True))
        assert ran.exit_code == 0, (line, ran.exception)


def _document(client: TestClient[Any]) -> dict[str, Any]:
    answer = client.get("/schema/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_endpoint_stands_in_the_readme(client: TestClient[Any]) -> None:
    paths = _document(client)["paths"]
    routes = [f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods]
    assert [route for route in routes if route not in README] == []


def test_the_api_is_the_one_that_was_recorded(client: TestClient[Any]) -> None:
    document = _document(client)
    document["info"]["version"] = "…"
    recorded.check("openapi.json", json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_a_model_says_where_it_is_from_and_under_which_terms(folder: Path) -> None:
    described = manifest.read(folder)
    assert described.licence
    assert (folder / "LICENSE").stat().st_size > 0
    for part in (part for file in described.files for part in file.fetched):
        assert part.source
        assert re.fullmatch(r"[0-9a-f]{64}", part.sha256) or part.source.startswith("hf:"), part.source
    assert re.search(rf"`{folder.name}`", README), f"{folder.name} is not in README.md"


# --- what is shown to a reader ---------------------------------------------------------------------------------------


def test_every_link_into_the_checkout_leads_somewhere() -> None:
    for name in ("README.md", "DECISIONS.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


def test_decisions_are_numbered_and_dated() -> None:
    heads = re.findall(r"^## (\d+)\. .+\((\d{4}-\d\d-\d\d)\)$", (ROOT / "DECISIONS.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in heads] == list(range(1, len(heads) + 1))
    assert len(heads) == len(re.findall(r"^## ", (ROOT / "DECISIONS.md").read_text(), re.MULTILINE))


def test_the_receiver_shown_in_readme_reads_jobs_and_batches_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    monkeypatch.setenv("CUSTOMHOUSE_WEBHOOK_SECRET", secret)
    block = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "Receiver" in code)
    code, last = block.rstrip().rsplit("\n", 1)
    assert last == 'ThreadingHTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()'
    room: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), room)
    server = ThreadingHTTPServer(("127.0.0.1", 0), room["Receiver"])
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def send(body: dict[str, Any]) -> int:
        now, raw = datetime.now(UTC), json.dumps(body)
        headers = {
            "webhook-id": body["delivery_id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(body["delivery_id"], now, raw),
        }
        return httpx.post(f"http://127.0.0.1:{server.server_port}/", content=raw, headers=headers).status_code

    item = {"job_id": "j2", "is_prohibited": False}
    batch = {"delivery_id": "wh_2", "items": [item, {"job_id": "j3", "is_prohibited": None}], "type": "text_batch"}
    try:
        answers = [send({"delivery_id": "wh_1", "job_id": "j1", "is_prohibited": True}), send(batch), send(batch)]
    finally:
        server.shutdown()
        server.server_close()
    assert answers == [204, 204, 204]
    assert capsys.readouterr().out.splitlines() == ["prohibited: j1", "allowed: j2", "failed, so not allowed: j3"]
