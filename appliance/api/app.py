"""The application: routes, the guard, the translator of errors, the documents. Litestar's room."""

import asyncio
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, cast

from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme

from appliance import __version__, access, settings, structs, tracing
from appliance import log as logs
from appliance.api import (
    account,
    admin_audit,
    admin_clients,
    admin_keys,
    admin_keywords,
    admin_models,
    admin_orgs,
    admin_plans,
    admin_policies,
    admin_prompts,
    allowance,
    azure,
    azure_blocklists,
    batch,
    billing,
    custom,
    deliveries,
    dify,
    events,
    examples,
    health,
    history,
    jobs,
    litellm,
    methods,
    moderate,
    moderations,
    omnimod,
    omnimod_image,
    openai,
    openai_models,
    operators,
    page,
    payments,
    perspective,
    pictrs,
    pleroma,
    policies,
    previews,
    progress,
    refusals,
    steps,
    usage,
    webhook_secrets,
    webhooks,
)
from appliance.api.condition import Condition
from appliance.api.door import Door
from appliance.api.errors import answer
from appliance.api.front import Front
from appliance.api.life import LEAVE, Life
from appliance.errors import NotFound
from appliance.house import House
from appliance.inference.client import Models
from appliance.outbound import Outbound
from appliance.tasks import Lanes
from appliance.text import language

log = logging.getLogger(__name__)

ROUTES = [
    *moderate.ROUTES,
    *batch.ROUTES,
    *jobs.ROUTES,
    *history.ROUTES,
    *progress.ROUTES,
    *usage.ROUTES,
    *account.ROUTES,
    *webhooks.ROUTES,
    *webhook_secrets.ROUTES,
    *custom.ROUTES,
    *steps.ROUTES,
    *examples.ROUTES,
    *moderations.ROUTES,
    *omnimod.ROUTES,
    *omnimod_image.ROUTES,
    *allowance.ROUTES,
    *events.ROUTES,
    *policies.ROUTES,
    *perspective.ROUTES,
    *azure.ROUTES,
    *azure_blocklists.ROUTES,
    *openai.ROUTES,
    *openai_models.ROUTES,
    *litellm.ROUTES,
    *dify.ROUTES,
    *pictrs.ROUTES,
    *pleroma.ROUTES,
    *billing.ROUTES,
    *payments.ROUTES,
    *admin_audit.ROUTES,
    *admin_clients.ROUTES,
    *admin_keys.ROUTES,
    *admin_keywords.ROUTES,
    *admin_models.ROUTES,
    *admin_orgs.ROUTES,
    *admin_plans.ROUTES,
    *admin_policies.ROUTES,
    *previews.ROUTES,
    *admin_prompts.ROUTES,
    *health.ROUTES,
]

_HEALTH_DEADLINE_S = 3.0
_PR_SET_PDEATHSIG = 1

_ABOUT = (
    "Content moderation on your own hardware. Submit a prompt, an image or a video; the answer is a job's id at once, "
    "and the verdict follows by polling, by server-sent events or by webhook. Every request carries a key as "
    "`Authorization: Bearer YOUR_API_KEY`; every answer carries `x-request-id`, yours if you sent one. Errors are "
    '`{"error", "message", "statusCode"}`, with `details` where a field is meant.'
)


def from_environment(life: Life | None = None) -> Litestar:
    """What each API process serves: settings from the environment, a house of its own."""
    _die_with_parent()
    structs.prepare()
    loaded = settings.load()
    logs.configure(loaded.log, file=loaded.log_file("api"))
    app = create_app(House(loaded, access.SERVICE), beside=[operators.served(loaded)])
    app.on_startup.append(partial(_leave_when_told, life))
    app.on_startup.append(_spare_what_stays)
    app.on_shutdown.append(tracing.start("api", loaded.tracing.otlp_endpoint))
    if life is not None:
        app.asgi_handler = life.around(app.asgi_handler)
        app.on_startup.append(life.begin)
    # beside the start: it takes a second, and the first text should not wait for it
    threading.Thread(target=language.warm, name="warm", daemon=True).start()
    return app


def create_app(
    house: House, beside: Sequence[Callable[[Litestar], AbstractAsyncContextManager[None]]] = ()
) -> Litestar:
    """The application over this house, which it closes as it ends; `beside` is there while it serves."""
    lanes = Lanes(house.settings)
    models = Models(house.settings.inference_socket, _HEALTH_DEADLINE_S)
    outbound = Outbound(house.settings.media.allowed_private_cidrs)

    @asynccontextmanager
    async def opened(app: Litestar) -> AsyncGenerator[None]:
        door = Door(house, lanes, outbound, Condition(house, lanes, models))
        app.state["door"] = door
        try:
            yield
        finally:
            await door.close()
            house.close()

    app = Litestar(
        [*methods.options(ROUTES), *ROUTES, documentation],  # a path whose OPTIONS comes late has two of them
        lifespan=[opened, *beside],
        exception_handlers={Exception: answer},
        logging_config=None,  # ours is set up in the process's main
        openapi_config=_openapi(),
        request_max_body_size=house.settings.server.max_body_mb * 1_000_000,
        state=State(),
    )
    # Outside the router, so that an unknown path has an id and a line too.
    app.asgi_handler = Front(app.asgi_handler, house.settings.server, answer)
    return app


def _die_with_parent() -> None:
    """When the server's main process is killed outright, this one must not stay behind and hold the port."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it was killed before we asked: nobody will tell us
        os._exit(1)


def _spare_what_stays() -> None:
    """What is made as the process starts is there for good: the collector need not go through routes and word lists
    again and again, nor run every 700 objects, which a handful of requests make."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _leave_when_told(life: Life | None, app: Litestar) -> None:
    """Streams may stay open for half an hour, and the server waits for what is open as it stops."""
    door = cast("Door", app.state["door"])

    def end() -> None:
        door.watcher.end()
        door.hasty.end()
        if life is not None:
            life.leave()

    asyncio.get_running_loop().add_signal_handler(LEAVE, end)


@get("/docs", include_in_schema=False, media_type="text/html")
async def documentation(request: Request[Any, Any, Any]) -> Response[str]:
    return _page(request.app.openapi_schema.to_schema())


def _page(document: dict[str, Any]) -> Response[str]:
    return Response(
        page.render(document),
        media_type="text/html",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


class _Page(OpenAPIRenderPlugin):
    """The same page at /schema."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return page.render(openapi_schema).encode()


def _openapi() -> OpenAPIConfig:
    def refuse_unknown(response: Response[Any]) -> Response[Any]:
        if response.status_code == 404:  # the framework's own page for a path below /schema that is not there
            raise NotFound("There is nothing at this path; see /schema for what there is")
        return response

    return OpenAPIConfig(
        title="Customhouse",
        version=__version__,
        description=_ABOUT,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", description="Your API key.")},
            responses=refusals.components(),
        ),
        webhooks=deliveries.documented(),
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, after_request=refuse_unknown),
        render_plugins=[_Page(path="/"), JsonRenderPlugin(), YamlRenderPlugin()],
    )
