"""/api/v1/admin/models/{provider}: what the model process has of one runtime, and opening it anew."""

import asyncio
import logging
from typing import Annotated, Any

import msgspec
from litestar import delete, get
from litestar.params import PathParameter

from appliance import audit
from appliance.api import admin
from appliance.api.admin import REASON, ROOT, Asked, administered
from appliance.api.documents import Answer, Entry
from appliance.api.door import Door, door
from appliance.errors import CustomhouseError, Failure, NotFound, Unavailable
from appliance.inference import manifest, runtime
from appliance.inference.client import Models
from appliance.inference.manifest import Manifest
from appliance.inference.wire import ModelState, ModelStatus, Status

log = logging.getLogger(__name__)

PROVIDERS = {"onnx": ("onnx", "faces", "heads"), "llama_cpp": ("llama",)}
"""The contract's provider → the runtimes that a manifest names; faces and text heads are ONNX models put together."""

_DEADLINE_S = 5.0


class ModelBody(msgspec.Struct, frozen=True):
    """`device` is the one really used; `wanted_device` differs where CUDA was asked for and is not used."""

    name: str
    title: str
    task: str
    is_installed: bool
    state: str
    device: str
    wanted_device: str
    digest: str
    memory_bytes: int
    queued: int
    answered: int
    batches: dict[str, int]
    p50_ms: float
    p99_ms: float
    last_error: str | None


class ProviderBody(msgspec.Struct, frozen=True):
    """`is_running` is false when the model process does not answer: states are then unknown."""

    provider: str
    is_running: bool
    device: str
    models: list[ModelBody]
    degraded: list[str]


class Reopened(msgspec.Struct, frozen=True):
    model: str
    state: str
    device: str
    memory_bytes: int
    error: str | None


class ClearedBody(msgspec.Struct, frozen=True):
    provider: str
    reopened: list[Reopened]


_MODEL: dict[str, Any] = {
    "name": "opennsfw",
    "title": "OpenNSFW",
    "task": "image-classification",
    "is_installed": True,
    "state": "ready",
    "device": "cpu",
    "wanted_device": "cpu",
    "digest": "864bb37bf863",
    "memory_bytes": 24_000_000,
    "queued": 0,
    "answered": 1204,
    "batches": {"1": 310, "4": 220},
    "p50_ms": 18.2,
    "p99_ms": 61.0,
    "last_error": None,
}

READ = Entry(
    id="get_models",
    tag="Admin",
    summary="Get a provider's models",
    description="Every model that has a manifest: whether it is installed, loaded, on which device, and how it does.",
    answer=Answer(
        200,
        ProviderBody,
        "The models.",
        {"onnx": {"provider": "onnx", "is_running": True, "device": "cpu", "models": [_MODEL], "degraded": []}},
    ),
    messages={"NOT_FOUND": "There is no provider 'tensorrt'; there are: onnx, llama_cpp"},
)
CLEAR = Entry(
    id="clear_models_cache",
    tag="Admin",
    summary="Clear a provider's caches",
    description=(
        "Opens every loaded model of the provider anew from its files: prompt caches and sessions are gone, their "
        "memory is given back, and weights that were replaced on disk are read. The old one answers until the new one "
        "has passed a test question, so no job is dropped; where there is no room for two, it stays, and `error` says "
        "so."
    ),
    answer=Answer(
        200,
        ClearedBody,
        "What was opened anew.",
        {
            "onnx": {
                "provider": "onnx",
                "reopened": [
                    {"model": "opennsfw", "state": "ready", "device": "cpu", "memory_bytes": 24_000_000, "error": None}
                ],
            }
        },
    ),
    errors=("INVALID_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA"),
    messages={
        "NOT_FOUND": "There is no provider 'tensorrt'; there are: onnx, llama_cpp",
        "SERVICE_UNAVAILABLE": "The model process does not answer; it may be starting",
    },
    query=(REASON,),
)

Provider = Annotated[str, PathParameter(description="onnx or llama_cpp.", schema_extra={"enum": [*PROVIDERS]})]

_PATH = f"{ROOT}/models/{{provider:str}}"


@get(_PATH, **administered(READ))
async def get_models(request: Asked, provider: Provider) -> ProviderBody:
    return await asyncio.to_thread(_look, door(request), provider)


@delete(f"{_PATH}/cache", status_code=200, **administered(CLEAR))
async def clear_models_cache(request: Asked, provider: Provider) -> ClearedBody:
    there = door(request)
    reason = admin.maybe_why(request, await admin.given(request))
    reopened = await asyncio.to_thread(_reopen, there, provider)
    await there.house.db.write_async(
        lambda conn: audit.record(
            conn,
            request.user.actor,
            "models.reopened",
            provider,
            reason=reason,
            models={one.model: one.error or "ready" for one in reopened},
        )
    )
    return ClearedBody(provider=provider, reopened=reopened)


ROUTES = [get_models, clear_models_cache]


def _look(there: Door, provider: str) -> ProviderBody:
    settings = there.house.settings
    known = _manifests(there, provider)
    status = _status(Models(settings.inference_socket, _DEADLINE_S))
    found = {one.name: one for one in status.models} if status else {}
    sentences = status.degraded if status else ["The model process does not answer; start it: customhouse infer"]
    return ProviderBody(
        provider=provider,
        is_running=status is not None,
        device=status.device if status else "",
        models=[_body(there, one, found.get(one.name), status is not None) for one in known],
        degraded=[
            line for line in sentences if status is None or line.partition(":")[0] in {one.name for one in known}
        ],
    )


def _reopen(there: Door, provider: str) -> list[Reopened]:
    """Raises NotFound, or Unavailable when the model process is not there."""
    names = [one.name for one in _manifests(there, provider)]
    models = Models(there.house.settings.inference_socket, _DEADLINE_S)
    try:
        loaded = [one.name for one in models.status().models if one.name in names and one.state is ModelState.READY]
        return [_reopened(models, name) for name in loaded]
    except Failure as failure:
        raise Unavailable(failure.message, retry_after_s=5) from failure
    finally:
        models.close()


def _reopened(models: Models, name: str) -> Reopened:
    try:
        now = models.reload(name)
    except Failure as failure:
        return Reopened(model=name, state="", device="", memory_bytes=0, error=failure.message)
    return Reopened(model=name, state=now.state.value, device=now.device, memory_bytes=now.memory_bytes, error=None)


def _status(models: Models) -> Status | None:
    try:
        return models.status()
    except Failure as failure:
        log.warning("models not asked", extra={"why": failure.message})
        return None
    finally:
        models.close()


def _manifests(there: Door, provider: str) -> list[Manifest]:
    """Raises NotFound."""
    if provider not in PROVIDERS:
        raise NotFound(f"There is no provider {provider!r}; there are: {', '.join(PROVIDERS)}")
    try:
        known = manifest.read_all(there.house.settings.models_dir)
    except CustomhouseError as error:
        raise Unavailable(error.message, retry_after_s=60) from error
    return [one for one in known.values() if one.runtime in PROVIDERS[provider]]


def _body(there: Door, one: Manifest, status: ModelStatus | None, is_running: bool) -> ModelBody:
    missing = runtime.missing_files(one, there.house.settings.weights_dir / one.name)
    status = status or ModelStatus(name=one.name, task=one.task.value, state=ModelState.ABSENT)
    return ModelBody(
        name=one.name,
        title=one.title,
        task=one.task.value,
        is_installed=not missing,
        state=status.state.value if is_running else "unreachable",
        device=status.device,
        wanted_device=status.wanted_device,
        digest=status.digest,
        memory_bytes=status.memory_bytes,
        queued=status.queued,
        answered=status.answered,
        batches=status.batches,
        p50_ms=status.p50_ms,
        p99_ms=status.p99_ms,
        last_error=status.last_error,
    )
