"""Azure AI Content Safety's text blocklists: an organisation's lists by name, and their items. C.3."""

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.openapi.spec import OpenAPIType
from litestar.params import PathParameter

from appliance import clock
from appliance.accounts.keys import Caller
from appliance.api import azure_request, form
from appliance.api.azure_request import API_VERSION, CREDENTIALS
from appliance.api.documents import Answer, Entry, Field, operation
from appliance.api.door import door
from appliance.api.root import root_url
from appliance.database import Connection
from appliance.errors import NotFound
from appliance.text import named_lists
from appliance.text.named_lists import Item, NamedList

AnyRequest = Request[Caller, Any, Any]

_PAGE = 100
_BODY = 1_000_000  # a hundred items of 128 characters with descriptions of 1,024


class BlocklistBody(msgspec.Struct, frozen=True, omit_defaults=True):
    blocklistName: str
    description: str | None = None


class ItemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    blocklistItemId: str
    text: str
    description: str | None = None


class BlocklistsBody(msgspec.Struct, frozen=True, omit_defaults=True):
    value: list[BlocklistBody]
    nextLink: str | None = None


class ItemsBody(msgspec.Struct, frozen=True, omit_defaults=True):
    value: list[ItemBody]
    nextLink: str | None = None


class AddedBody(msgspec.Struct, frozen=True):
    blocklistItems: list[ItemBody]


_TAG = "Azure AI Content Safety"
_SCOPE = ("moderations:create", "moderate:prompt")
_LIST = {"blocklistName": "rivals", "description": "Names of other shops."}
_ITEM = {"blocklistItemId": "9e1c6a1e-6f4f-4f53-9c0e-0d4b5b1f6a51", "text": "Acme"}
_PAGING = (
    Field("top", "How many to list in all.", kind=OpenAPIType.INTEGER, least=0, most=999_999_999),
    Field("skip", "How many to pass over first.", kind=OpenAPIType.INTEGER, least=0, most=999_999_999),
    Field("maxpagesize", "How many a page; 100 at most.", kind=OpenAPIType.INTEGER, least=1, most=999_999_999),
)


def _entry(verb: str, summary: str, description: str, answer: Answer, **more: Any) -> Entry:
    return Entry(
        id=f"azure_{verb}",
        tag=_TAG,
        summary=summary,
        description=description,
        answer=answer,
        scope=_SCOPE,
        credentials=CREDENTIALS,
        dialect="azure",
        query=(API_VERSION, *more.pop("query", ())),
        **more,
    )


LISTS = _entry(
    "list_blocklists",
    "List the blocklists",
    "By name.",
    Answer(200, BlocklistsBody, "A page.", {"one": {"value": [_LIST]}}),
    query=_PAGING,
)
READ = _entry(
    "get_blocklist",
    "Get a blocklist",
    "Its name and description.",
    Answer(200, BlocklistBody, "The list.", {"one": _LIST}),
    errors=("NOT_FOUND",),
)
PUT = _entry(
    "put_blocklist",
    "Make or change a blocklist",
    "A merge patch: what is left out stays as it is. The name has 1 to 64 of the characters 0-9 A-Z a-z . _ ~ -; an "
    f"account has {named_lists.LISTS} lists at most.",
    Answer(200, BlocklistBody, "Changed.", {"one": _LIST}),
    also=(Answer(201, BlocklistBody, "Made.", {"one": _LIST}),),
    fields=(
        Field("blocklistName", "If given, as in the path.", longest=64, is_nullable=True),
        Field("description", "What it is for.", longest=named_lists.LONGEST_DESCRIPTION, is_nullable=True),
    ),
    examples={"a list": _LIST},
    is_json_only=True,
)
DELETE = _entry(
    "delete_blocklist",
    "Delete a blocklist",
    "With its items. One that is not there is gone already.",
    Answer(204, None, "Gone."),
)
CHANGE = _entry(
    "change_blocklist_items",
    "Add, change or remove items",
    "The path ends in `:addOrUpdateBlocklistItems` (with `blocklistItems`) or `:removeBlocklistItems` (with "
    "`blocklistItemIds`), 100 at once. An item is found however it is disguised, as words of its own; of a text that "
    f"is on the list already the description is replaced. A list holds {named_lists.ITEMS} items at most.",
    Answer(200, AddedBody, "The items as they stand now.", {"added": {"blocklistItems": [_ITEM]}}),
    also=(Answer(204, None, "Removed."),),
    errors=("NOT_FOUND",),
    fields=(
        Field(
            "blocklistItems",
            "`text` of 1 to 128 characters and, if you like, `description`.",
            shape=list[dict[str, Any]],
        ),
        Field("blocklistItemIds", "Ids of those to remove.", shape=list[str]),
    ),
    examples={
        "add": {"blocklistItems": [{"text": "Acme"}]},
        "remove": {"blocklistItemIds": [_ITEM["blocklistItemId"]]},
    },
    is_json_only=True,
)
ITEMS = _entry(
    "list_blocklist_items",
    "List the items of a blocklist",
    "In the order in which they were added.",
    Answer(200, ItemsBody, "A page.", {"one": {"value": [_ITEM]}}),
    errors=("NOT_FOUND",),
    query=_PAGING,
)
ITEM = _entry(
    "get_blocklist_item",
    "Get an item of a blocklist",
    "Its text and description.",
    Answer(200, ItemBody, "The item.", {"one": _ITEM}),
    errors=("NOT_FOUND",),
)

_PATH = "/contentsafety/text/blocklists"

Name = Annotated[
    str, PathParameter(description="The blocklist's name.", schema_extra={"pattern": f"^{named_lists.NAME.pattern}$"})
]
NameAndVerb = Annotated[
    str,
    PathParameter(
        description="The blocklist's name, a colon, and what to do with its items.",
        schema_extra={"pattern": f"^{named_lists.NAME.pattern}:(addOrUpdateBlocklistItems|removeBlocklistItems)$"},
    ),
]
ItemId = Annotated[str, PathParameter(description="The `blocklistItemId`.")]


@get(_PATH, **operation(LISTS))
async def list_blocklists(request: AnyRequest) -> BlocklistsBody:
    azure_request.check_version(request)
    every = named_lists.every(door(request).house.db.reader(), request.user.org_id)
    skip, most, top = _paging(request)
    shown = every[skip : skip + most]
    return BlocklistsBody(
        [_list_body(one) for one in shown], _next_link(request, skip, len(shown), top, len(every) > skip + most)
    )


@get(f"{_PATH}/{{blocklist_name:str}}", **operation(READ))
async def get_blocklist(request: AnyRequest, blocklist_name: Name) -> BlocklistBody:
    azure_request.check_version(request)
    name = azure_request.list_name(blocklist_name)
    return _list_body(named_lists.get(door(request).house.db.reader(), request.user.org_id, name))


@patch(f"{_PATH}/{{blocklist_name:str}}", status_code=200, **operation(PUT))
async def put_blocklist(request: AnyRequest, blocklist_name: Name) -> Response[BlocklistBody]:
    azure_request.check_version(request)
    name, caller = azure_request.list_name(blocklist_name), request.user
    given = await form.json_object(request)
    if given.get("blocklistName") not in (None, name):
        raise azure_request.wrong("The blocklistName must be the one in the path.", "blocklistName")
    description, keeps = azure_request.description(given), "description" not in given

    def change(conn: Connection) -> tuple[bool, NamedList]:
        is_new = named_lists.put(conn, caller, name, description, keeps_description=keeps)
        return is_new, named_lists.get(conn, caller.org_id, name)

    is_new, made = await door(request).house.db.write_async(change)
    return Response(_list_body(made), status_code=201 if is_new else 200, media_type="application/json")


@delete(f"{_PATH}/{{blocklist_name:str}}", status_code=204, **operation(DELETE))
async def delete_blocklist(request: AnyRequest, blocklist_name: Name) -> None:
    azure_request.check_version(request)
    name, caller = azure_request.list_name(blocklist_name), request.user
    await door(request).house.db.write_async(lambda conn: named_lists.delete(conn, caller, name))


@post(f"{_PATH}/{{blocklist_name:str}}", status_code=200, **operation(CHANGE))
async def change_blocklist_items(request: AnyRequest, blocklist_name: NameAndVerb) -> Response[Any]:
    azure_request.check_version(request)
    name, _, verb = blocklist_name.partition(":")  # the router knows no text after a parameter
    name, caller, db = azure_request.list_name(name), request.user, door(request).house.db
    if verb not in ("addOrUpdateBlocklistItems", "removeBlocklistItems"):
        raise NotFound("The path ends in :addOrUpdateBlocklistItems or :removeBlocklistItems")
    async with form.long_json_object(request, _BODY, door(request).bodies) as (given, _):
        if verb == "removeBlocklistItems":
            ids = azure_request.item_ids(given)
            await db.write_async(lambda conn: named_lists.remove_items(conn, caller, name, ids))
            return Response(None, status_code=204)
        items = azure_request.items(given, clock.new_id)
    added = await db.write_async(lambda conn: named_lists.add_items(conn, caller, name, items))
    return Response(AddedBody([_item_body(one) for one in added]), media_type="application/json")


@get(f"{_PATH}/{{blocklist_name:str}}/blocklistItems", **operation(ITEMS))
async def list_blocklist_items(request: AnyRequest, blocklist_name: Name) -> ItemsBody:
    azure_request.check_version(request)
    name = azure_request.list_name(blocklist_name)
    skip, most, top = _paging(request)
    page = named_lists.page(door(request).house.db.reader(), request.user.org_id, name, skip=skip, most=most)
    link = _next_link(request, skip, len(page.items), top, page.has_more)
    return ItemsBody([_item_body(one) for one in page.items], link)


@get(f"{_PATH}/{{blocklist_name:str}}/blocklistItems/{{item_id:str}}", **operation(ITEM))
async def get_blocklist_item(request: AnyRequest, blocklist_name: Name, item_id: ItemId) -> ItemBody:
    azure_request.check_version(request)
    name = azure_request.list_name(blocklist_name)
    return _item_body(named_lists.item(door(request).house.db.reader(), request.user.org_id, name, item_id))


ROUTES = [
    list_blocklists,
    get_blocklist,
    put_blocklist,
    delete_blocklist,
    change_blocklist_items,
    list_blocklist_items,
    get_blocklist_item,
]


def _list_body(one: NamedList) -> BlocklistBody:
    return BlocklistBody(one.name, one.description)


def _item_body(one: Item) -> ItemBody:
    return ItemBody(one.id, one.text, one.description)


def _paging(request: AnyRequest) -> tuple[int, int, int | None]:
    """What to pass over, how many to show on this page, and how many were asked for in all."""
    top = azure_request.number(request, "top", -1)
    page = min(_PAGE, azure_request.number(request, "maxpagesize", _PAGE, least=1))
    skip = azure_request.number(request, "skip", 0)
    return skip, page if top < 0 else min(page, top), None if top < 0 else top


def _next_link(request: AnyRequest, skip: int, shown: int, top: int | None, has_more: bool) -> str | None:
    left = None if top is None else top - shown
    if not has_more or left == 0:
        return None
    query = {"api-version": request.query_params["api-version"], "skip": skip + shown}
    if left is not None:
        query["top"] = left
    if "maxpagesize" in request.query_params:
        query["maxpagesize"] = request.query_params["maxpagesize"]
    return f"{root_url(request)}{request.scope['path'].lstrip('/')}?{urlencode(query)}"
