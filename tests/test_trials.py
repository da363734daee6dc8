"""Trying a question within a request: what hangs is left in time, and too many at once are refused."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.api import trial as trials
from appliance.api.trial import Trials, refusal
from appliance.errors import (
    AddressRefused,
    DecoderDown,
    Failure,
    InferenceDown,
    MediaTooLarge,
    MediaUnreachable,
    MediaUnsupported,
    ModelRefused,
    ModelUnavailable,
    Refusal,
    Unavailable,
)
from appliance.outbound import Outbound
from appliance.settings import Inference, Settings


@pytest.fixture
def hung(settings: Settings) -> Iterator[Settings]:
    """The settings of a house whose model process takes requests and answers none."""
    settings = replace(settings, inference=Inference(text_judge="reader", vision_judge="eyes", deadline_s=0.3))
    settings.run_dir.mkdir(parents=True)
    settings.media_dir.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(str(settings.inference_socket))
        ear.listen(64)
        yield settings


def answers(settings: Settings, count: int, once_made: Callable[[], None] = lambda: None) -> list[Any]:
    async def ask() -> list[Any]:
        made = Trials(settings, Outbound())
        once_made()
        tries: list[Coroutine[Any, Any, Any]] = [made.of_text("Is it?", "hello") for _ in range(count)]
        try:
            return await asyncio.gather(*tries, return_exceptions=True)
        finally:
            made.close()

    return asyncio.run(ask())


def test_a_model_that_does_not_answer_is_left_after_its_deadline(hung: Settings) -> None:
    begun = time.monotonic()
    (answer,) = answers(hung, 1)
    assert isinstance(answer, Unavailable)
    assert "no answer within 0.3 s" in answer.message
    assert time.monotonic() - begun < 20


def test_a_trial_as_a_whole_has_a_deadline(hung: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(hung, inference=replace(hung.inference, deadline_s=1.0))
    (answer,) = answers(slow, 1, once_made=lambda: monkeypatch.setattr(trials, "DEADLINE_S", 0.05))
    assert isinstance(answer, Unavailable)
    assert "not judged within 0.05 s" in answer.message


def test_more_than_ten_at_once_are_refused_and_the_others_are_not(hung: Settings) -> None:
    found = answers(hung, 13)
    assert all(isinstance(one, Unavailable) for one in found)
    assert ["Too many" in one.message for one in found] == [False] * 10 + [True] * 3


def test_a_closed_one_starts_no_decoder(hung: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")

    async def ask() -> None:
        made = Trials(hung, Outbound())
        made.close()
        with pytest.raises((Unavailable, RuntimeError)):
            await made.of_picture("Is it?", "image_file", path=tmp_path / "a.png")

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (AddressRefused("leads to a private or internal network"), 400, "INVALID_REQUEST"),
        (MediaUnreachable("the host answered 404", permanent=True), 422, "MEDIA_UNREACHABLE"),
        (MediaUnsupported("no picture"), 415, "UNSUPPORTED_MEDIA"),
        (MediaTooLarge("too many pixels"), 413, "PAYLOAD_TOO_LARGE"),
        (ModelUnavailable("not loaded", permanent=True), 503, "SERVICE_UNAVAILABLE"),
        (ModelRefused("no verdict", permanent=True), 503, "SERVICE_UNAVAILABLE"),
        (InferenceDown("not there"), 503, "SERVICE_UNAVAILABLE"),
        (DecoderDown("did not start"), 503, "SERVICE_UNAVAILABLE"),
    ],
)
def test_each_failure_has_its_answer(failure: Failure, status: int, code: str) -> None:
    answer: Refusal = refusal("image_url", failure)
    assert (answer.status, answer.code) == (status, code)
    assert failure.message in answer.message
