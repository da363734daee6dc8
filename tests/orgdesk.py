"""The administrator's desk at OmniMod's routes: /admin/v1/orgs/{org}, with Alice's organisation."""

from typing import Any

import httpx

from tests.cast import Person
from tests.desk import Desk

ORGS = "/admin/v1/orgs"


class OrgDesk(Desk):
    def ask(self, method: str, path: str, json: Any = None, *, by: Person | None = None, **how: Any) -> httpx.Response:
        headers = {**(by or self.staff).headers, **how.pop("headers", {})}
        return self.client.request(method, f"{ORGS}/{self.alice.org_id}{path}", headers=headers, json=json, **how)
