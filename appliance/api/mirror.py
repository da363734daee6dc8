"""What OmniMod's read-only routes under /v1 have in common: a key with account:config sees its own organisation's part
of what operators see under /admin/v1/orgs/{org}. B.2.4 of the contract."""

from typing import Any

import msgspec

from appliance.api.documents import Entry, operation

SCOPE = "account:config"


def mirrored(entry: Entry, *, id: str) -> dict[str, Any]:
    """The arguments of a route's decorator: the operators' entry, for a tenant and in OmniMod's words."""
    return operation(msgspec.structs.replace(entry, id=id, tag="OmniMod account", scope=SCOPE, dialect="omnimod"))
