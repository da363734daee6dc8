"""What schemathesis sends where a schema says no more than `uri` or `image/png`: addresses of nobody, real pictures."""

import os
from typing import Any

import cv2
import numpy as np
import schemathesis
from hypothesis import strategies as st

from appliance.demo import MEDIA

_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?\.(example|invalid)", fullmatch=True)
_PATHS = st.from_regex(r"(/[A-Za-z0-9._~-]{0,12}){0,4}(\?[a-z]{1,5}=[A-Za-z0-9%]{0,8})?", fullmatch=True).filter(
    lambda path: "%" not in path
)


def _picture(suffix: str) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda width, height, shade: cv2.imencode(suffix, np.full((height, width, 3), shade, np.uint8))[1].tobytes(),
        st.integers(1, 64),
        st.integers(1, 64),
        st.integers(0, 255),
    )


schemathesis.openapi.format("uri", st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), _NAMES, _PATHS))
schemathesis.openapi.media_type("image/png", _picture(".png"))
schemathesis.openapi.media_type("image/jpeg", _picture(".jpg"))
schemathesis.openapi.media_type("image/webp", _picture(".webp"))
for clip in [*MEDIA.glob("*.mp4")]:
    schemathesis.openapi.media_type("video/mp4", st.just(clip.read_bytes()))
for clip in [*MEDIA.glob("*.webm")]:
    schemathesis.openapi.media_type("video/webm", st.just(clip.read_bytes()))

_SPARED = os.environ["CUSTOMHOUSE_TEST_SPARE"].split()
_NOBODY = "00000000-0000-4000-8000-000000000000"


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Not on the branch that it sits on: its own account is not banned, and its own key not revoked."""
    if case.method == "GET":
        return
    for name, value in (case.path_parameters or {}).items():
        if str(value).strip().lower() in _SPARED:
            case.path_parameters[name] = _NOBODY


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """An address has no limit here: one of exactly 2,048 characters was looked for for a minute a route. That longer
    ones are refused, test_api_account and test_api_moderate hold."""
    _unlimit(raw_schema)


def _unlimit(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("format") == "uri":
            node.pop("maxLength", None)
            node.pop("minLength", None)
        for value in node.values():
            _unlimit(value)
    elif isinstance(node, list):
        for value in node:
            _unlimit(value)
