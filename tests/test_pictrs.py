"""pict-rs's external validation: what pict-rs sends is a raw body in pieces, of a known type and without any key but
the one in the path; the status is all that it reads. Over loopback against the running server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from litestar.testing import TestClient

from appliance.api import pictures
from appliance.demo import MEDIA
from appliance.settings import Settings
from tests.cast import Person, enrol
from tests.surfaces import WithModels
from tests.test_api_server import Served

PHOTOGRAPH = sorted(MEDIA.glob("*.jpg"))[0].read_bytes()


@pytest.fixture(scope="module")
def lemmy(models_served: WithModels) -> Person:
    return enrol(models_served.house, "pict-rs's", "lemmy", granted=("moderate:image",))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithModels]:
    """One whose checks find every picture explicit."""
    home = tmp_path_factory.mktemp("strict")
    categories = home / "categories.toml"
    shipped = Settings(home=home).categories_file.read_text()
    categories.write_text(shipped.replace("threshold = 0.5", "threshold = 0.000001"))
    served = WithModels(home, CUSTOMHOUSE_CATEGORIES_FILE=str(categories))
    yield served
    served.close()


def upload(served: Served, key: str, content: bytes, media_type: str = "image/jpeg") -> httpx.Response:
    """In pieces, as a stream comes: without a Content-Length."""
    pieces = (content[at : at + 10_000] for at in range(0, len(content), 10_000))
    return httpx.post(
        f"{served.url}/compat/pictrs/{key}", content=pieces, headers={"content-type": media_type}, timeout=60
    )


def drawn(name: str) -> bytes:
    found, encoded = cv2.imencode(name, np.full((64, 64, 3), 200, np.uint8))
    assert found
    return encoded.tobytes()


@pytest.mark.weights
def test_a_photograph_is_kept_and_its_job_says_where_it_came_from(models_served: WithModels, lemmy: Person) -> None:
    answer = upload(models_served, lemmy.key, PHOTOGRAPH)
    assert answer.status_code == 200
    assert answer.json()["categories"]["nsfw"] is False
    conn = models_served.house.db.reader()
    job = conn.execute("SELECT * FROM job WHERE id = ?", (answer.json()["job_id"],)).fetchone()
    assert (job["origin"], job["org_id"]) == ("pictrs", lemmy.org_id)
    assert upload(models_served, lemmy.key, drawn(".png"), "image/png").status_code == 200
    assert upload(models_served, lemmy.key, drawn(".webp"), "image/webp").status_code == 200
    used = conn.execute("SELECT requests, allowed, blocked FROM moderation_use WHERE org_id = ?", (lemmy.org_id,))
    assert tuple(used.fetchone()) == (3, 3, 0)


@pytest.mark.weights
def test_an_explicit_picture_is_refused(strict: WithModels) -> None:
    zoe = enrol(strict.house, "zoe's", "zoe")
    answer = upload(strict, zoe.key, PHOTOGRAPH)
    assert (answer.status_code, answer.json()["categories"]["nsfw"]) == (406, True)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"just words", 415),
        (PHOTOGRAPH[:300], 400),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 11_000_000, 413),
        ((Path(__file__).parent / "media/bigbuckbunny.mp4").read_bytes(), 400),
    ],
    ids=["empty", "words", "half a picture", "11 MB", "a video"],
)
def test_what_cannot_be_screened_is_refused_too(
    models_served: WithModels, lemmy: Person, content: bytes, status: int
) -> None:
    assert upload(models_served, lemmy.key, content).status_code == status


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without a worker: no picture is ever decided."""
    served = Served(tmp_path_factory.mktemp("bare"))
    yield served
    served.close()


def test_what_was_not_decided_by_the_deadline_is_refused(
    client: TestClient[Any], alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = pictures.screen.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "deadline_s", 0.2)
    answer = client.post(f"/compat/pictrs/{alice.key}", content=PHOTOGRAPH, headers={"content-type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]) == (503, "SERVICE_UNAVAILABLE")


def test_a_key_in_the_path_never_reaches_the_log(bare: Served) -> None:
    reader = enrol(bare.house, "pict-rs's", "reader", granted=("job:read",))
    assert upload(bare, reader.key, PHOTOGRAPH).status_code == 403
    assert upload(bare, "stars_" + "x" * 40, PHOTOGRAPH).status_code == 401
    assert httpx.get(f"{bare.url}/compat/pictrs/{reader.key}").status_code == 405
    assert httpx.get(f"{bare.url}/compat/pleroma/{reader.key}/?url=http://a.example/a.png").status_code == 403
    log = bare.log() + httpx.get(f"{bare.url}/metrics").text
    assert "/compat/pictrs/{token" in log
    assert reader.key not in log
    assert "stars_xxx" not in log
    assert "a.example" not in log
