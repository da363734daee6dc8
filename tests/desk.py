"""The administrator's desk: an application that answers /api/v1/admin on the network, and staff with a key."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from litestar.testing import TestClient
from msgspec.structs import replace

from appliance import audit
from appliance.audit import Filter, Line
from appliance.house import House
from appliance.settings import Server, Settings
from tests.cast import Person, enrol

Client = TestClient[Any]
ClientWith = Callable[[Settings], tuple[Client, House]]

ADMIN = "/api/v1/admin"
NOBODYS = "00000000-0000-4000-8000-000000000000"


class Desk:
    """`migrated` is the new database of conftest, to be copied: making one takes longer than most of these tests."""

    def __init__(self, client_with: ClientWith, settings: Settings, migrated: Path) -> None:
        self.settings = replace(settings, server=Server(admin_on_network=True))
        self.settings.home.mkdir(mode=0o750, exist_ok=True)
        shutil.copyfile(migrated, self.settings.database)
        self.client, self.house = client_with(self.settings)
        self.staff = enrol(self.house, "Staff", "sam", granted=("admin:config",))
        self.alice = enrol(self.house, "A", "alice")

    @property
    def actor(self) -> str:
        return f"key:{self.staff.key[:12]}"

    def ask(self, method: str, path: str, json: Any = None, *, by: Person | None = None, **how: Any) -> httpx.Response:
        headers = {**(by or self.staff).headers, **how.pop("headers", {})}
        return self.client.request(method, f"{ADMIN}{path}", headers=headers, json=json, **how)

    def done(self, method: str, path: str, json: Any = None, *, status: int = 200, **how: Any) -> Any:
        """What was answered, with this status."""
        answer = self.ask(method, path, json, **how)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str, json: Any = None, *, status: int, **how: Any) -> str:
        """The message of the refusal, which has this status."""
        answer = self.ask(method, path, json, **how)
        assert answer.status_code == status, answer.text
        assert answer.json()["statusCode"] == status
        return str(answer.json()["message"])

    def lines(self, **wanted: Any) -> list[Line]:
        """Of the audit log, newest first."""
        return audit.page(self.house.db.reader(), Filter(**wanted))
