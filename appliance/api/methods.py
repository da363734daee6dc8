"""OPTIONS on every path: the methods that it takes. The framework's own answer names those of one handler only."""

from collections.abc import Sequence

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler

from appliance.api import admin


def options(handlers: Sequence[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """One more handler for each path of these."""
    taken: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            taken.setdefault(path, {"OPTIONS"}).update(handler.http_methods)
    return [_naming(path, ", ".join(sorted(methods))) for path, methods in taken.items()]


def _naming(path: str, allowed: str) -> HTTPRouteHandler:
    @route(path, http_method="OPTIONS", status_code=204, include_in_schema=False, guards=[admin.found])
    async def name_methods() -> Response[None]:
        return Response(None, status_code=204, headers={"Allow": allowed})

    return name_methods
