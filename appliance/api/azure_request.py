"""Azure AI Content Safety's requests, read: what its members say, or the error that Azure gives for them (C.3)."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, cast

from litestar import Request

from appliance.api.shapes import Field
from appliance.errors import SurfaceRefusal
from appliance.text import named_lists, normalize
from appliance.text.named_lists import Item

VERSIONS = ("2023-10-01", "2024-09-01")
TEXT = 10_000
CATEGORIES = ("Hate", "SelfHarm", "Sexual", "Violence")
FOUR, EIGHT = "FourSeverityLevels", "EightSeverityLevels"

API_VERSION = Field("api-version", "Of Azure's API; both are answered alike.", is_required=True, choices=VERSIONS)
CREDENTIALS = ("header:ocp-apim-subscription-key", "bearer")

_NAMES = 20  # blocklists that one request names


def check_version(request: Request[Any, Any, Any]) -> None:
    """Raises SurfaceRefusal in Azure's words."""
    given = request.query_params.get("api-version")
    if not given:
        raise SurfaceRefusal(
            "The api-version query parameter (?api-version=) is required for all requests.",
            word="MissingApiVersionParameter",
            target="api-version",
        )
    if given not in VERSIONS:
        raise SurfaceRefusal(
            f"This api-version is not supported. The supported ones are: {', '.join(VERSIONS)}.",
            word="UnsupportedApiVersionValue",
            target="api-version",
        )


def text(given: dict[str, Any]) -> str:
    value = given.get("text")
    if not isinstance(value, str) or not value:
        raise wrong("The text field is required.", "text")
    if len(value) > TEXT:
        raise wrong(f"The text has more than {TEXT} characters.", "text")
    return value


def categories(given: dict[str, Any]) -> tuple[str, ...]:
    """Those that are asked for by name; empty: all there are."""
    value = given.get("categories")
    if value is None:
        return ()
    names = _strings(value, "categories", len(CATEGORIES))
    if not set(names) <= set(CATEGORIES):
        raise wrong(f"The categories are {', '.join(CATEGORIES)}.", "categories")
    return tuple(dict.fromkeys(names))


def levels(given: dict[str, Any], allowed: Sequence[str] = (FOUR, EIGHT)) -> str:
    value = given.get("outputType")
    if value is None:
        return FOUR
    if value not in allowed:
        raise wrong(f"The outputType is {' or '.join(allowed)}.", "outputType")
    return cast("str", value)


def blocklist_names(given: dict[str, Any]) -> tuple[str, ...]:
    value = given.get("blocklistNames")
    return () if value is None else tuple(dict.fromkeys(_strings(value, "blocklistNames", _NAMES)))


def halts(given: dict[str, Any]) -> bool:
    value = given.get("haltOnBlocklistHit")
    if value is not None and not isinstance(value, bool):
        raise wrong("haltOnBlocklistHit is true or false.", "haltOnBlocklistHit")
    return bool(value)


def image(given: dict[str, Any]) -> tuple[bytes | None, str | None]:
    """Its bytes, or its address."""
    value = given.get("image")
    there = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    content, url = there.get("content"), there.get("blobUrl")
    if (content is None) == (url is None):
        raise wrong("The image must have either content or blobUrl.", "image")
    if url is not None:
        if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
            raise wrong("blobUrl must be an http or https address.", "image.blobUrl")
        return None, url
    if not isinstance(content, str) or not content:
        raise wrong("The content must be the image in base64.", "image.content")
    try:
        return base64.b64decode(content, validate=True), None
    except (binascii.Error, ValueError):
        raise wrong("The content is not valid base64.", "image.content") from None


def list_name(name: str) -> str:
    if not named_lists.NAME.fullmatch(name):
        raise SurfaceRefusal(
            "A blocklist's name has 1 to 64 of the characters 0-9 A-Z a-z . _ ~ -",
            word="InvalidResourceName",
            target="blocklistName",
        )
    return name


def description(given: dict[str, Any]) -> str | None:
    value = given.get("description")
    if value is not None and not (isinstance(value, str) and len(value) <= named_lists.LONGEST_DESCRIPTION):
        raise wrong(
            f"A description is a string of at most {named_lists.LONGEST_DESCRIPTION} characters.", "description"
        )
    return value


def items(given: dict[str, Any], new_id: Any) -> list[Item]:
    """Those to be added or changed, each text once."""
    value = given.get("blocklistItems")
    if not isinstance(value, list) or not 1 <= len(cast("list[Any]", value)) <= named_lists.AT_ONCE:
        raise wrong(f"blocklistItems holds 1 to {named_lists.AT_ONCE} items.", "blocklistItems")
    return [_item(one, new_id()) for one in cast("list[Any]", value)]


def item_ids(given: dict[str, Any]) -> tuple[str, ...]:
    names = _strings(given.get("blocklistItemIds"), "blocklistItemIds", named_lists.AT_ONCE)
    if not names:
        raise wrong("blocklistItemIds holds at least one id.", "blocklistItemIds")
    return names


def number(request: Request[Any, Any, Any], name: str, default: int, least: int = 0) -> int:
    value = request.query_params.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and int(value) >= least):
        raise SurfaceRefusal(f"{name} is a number of at least {least}.", word="InvalidRequestParameter", target=name)
    return int(value)


def wrong(message: str, target: str) -> SurfaceRefusal:
    return SurfaceRefusal(message, word="InvalidRequestBody", target=target)


def _item(value: Any, item_id: str) -> Item:
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    said = given.get("text")
    if not isinstance(said, str) or not 1 <= len(said) <= named_lists.LONGEST or not normalize.spellings(said):
        issue = f"has 1 to {named_lists.LONGEST} characters, some of which can be seen."
        raise wrong(f"The text of an item {issue}", "blocklistItems.text")
    if given.get("isRegex"):
        raise wrong("Regular expressions are not taken on these lists; add them to the keywords.", "isRegex")
    return Item(item_id, said, description(given))


def _strings(value: Any, name: str, most: int) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise wrong(f"{name} must be a list of strings.", name)
    given = cast("list[Any]", value)
    if len(given) > most or not all(isinstance(one, str) for one in given):
        raise wrong(f"{name} must be a list of at most {most} strings.", name)
    return tuple(given)
