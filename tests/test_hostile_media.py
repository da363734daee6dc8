"""The corpus and some hundred damaged files through real decoder processes: nothing escapes, all is named, memory and
time are held. `python -m tests.hostile --minutes N` goes on for as long as you like."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import MediaTooLarge
from appliance.media import decoders, pipe, video
from appliance.media.probe import Header
from tests.hostile import disguises, images, mutate, videos
from tests.hostile.__main__ import MOST_MB

ROOT = Path(__file__).resolve().parent.parent
SEED = 20_261_121


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """In a process of its own, whose only children are decoders."""
    arguments = ["--reduced", "--files", "120", "--seed", str(SEED), "--limit", "4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_nothing_opens_a_file_calls_an_address_or_stays_behind(report: dict[str, Any]) -> None:
    assert report["escapes"] == []


def test_every_file_is_decoded_or_refused_by_name(report: dict[str, Any]) -> None:
    assert report["not_as_expected"] == []
    assert report["files"] == report["decoded"] + report["refused"]
    assert report["files"] > 500


def test_no_file_takes_more_memory_than_a_decoder_may_have(report: dict[str, Any]) -> None:
    assert report["worst_mb"][0] <= MOST_MB


def test_the_report_would_show_what_goes_wrong() -> None:
    """A canary that is opened, an address that is called, a process that stays: each is seen."""
    script = """
import socket, subprocess, sys, tempfile
from pathlib import Path
from tests.hostile.case import Case
from tests.hostile.watch import Watch
with tempfile.TemporaryDirectory() as folder, Watch(Path(folder)) as watch:
    def guilty() -> bytes:
        watch.canary.read_bytes()
        socket.create_connection(("127.0.0.1", watch.port)).close()
        watch.left = subprocess.Popen(["sleep", "60"])
        return b"nothing"
    outcome = watch.show(Case("guilty", "image", guilty, "decoded"))
    watch.left.kill()
    watch.left.wait()
assert outcome.verdict == "refused", outcome
assert len(watch.escapes) == 3, watch.escapes
assert all(words in " ".join(watch.escapes) for words in ("not given", "called", "left process")), watch.escapes
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_corpus_has_every_family_and_each_file_its_own_name(tmp_path: Path) -> None:
    found = [*disguises.cases(tmp_path / "canary.mp4", 9), *images.cases(), *videos.cases()]
    names = [case.name for case in found]
    assert len(set(names)) == len(names) > 400
    for family in ("png", "apng", "jpeg", "gif", "webp", "tiff", "bmp", "mp4", "mkv", "svg", "font", "hls", "ffconcat"):
        assert sum(name.startswith(family) for name in names) >= 3, family


def test_damage_is_the_same_of_the_same_seed() -> None:
    kinds = {kind for kind, _ in mutate.seeds().values()}
    assert kinds == {"image", "video"}
    for name, (_, data) in mutate.seeds().items():
        assert mutate.damaged(7, data) == mutate.damaged(7, data), name
    assert len({mutate.damaged(seed, videos.clip()) for seed in range(50)}) > 40


def test_a_clip_whose_tables_name_millions_of_pictures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four megabytes took a decoder for half an hour: the header claims days, and a minute of video buys time."""
    path = tmp_path / "many.mp4"
    path.write_bytes(videos.the_same_picture(3_000, 40))
    monkeypatch.setattr(video, "_MOST_KEYS", 2_000)
    clip = video._Clip(os.open(path, os.O_RDONLY), "mp4", 10**8)
    with pytest.raises(MediaTooLarge, match="2,000 key frames"):
        list(video._looked_at(clip.key_frames(), []))
    monkeypatch.setattr(video, "_MOST_LOOKED_AT", 100)
    with pytest.raises(MediaTooLarge, match="100 key frames to look at"):
        list(video._looked_at(((1_000 * number, lambda: None) for number in range(200)), []))


@pytest.mark.parametrize(
    ("said", "size", "seconds"),
    [
        (pipe.Progress(0, 10**9), 10**9, 1),  # claims eleven days, and has done nothing
        (pipe.Progress(600_000, 10**9), 100, 1),  # has done ten minutes, in a file of a hundred bytes
        (pipe.Progress(600_000, 10**9), 10**9, 6),
    ],
)
def test_time_is_bought_by_what_is_done_and_not_by_what_is_claimed(
    tmp_path: Path, said: pipe.Progress, size: int, seconds: int
) -> None:
    path = tmp_path / "claims.mp4"
    path.touch()
    os.truncate(path, size)
    decoder = decoders._Decoder(100)
    ours, theirs = socket.socketpair()
    decoder._line, decoder._is_ready = ours, True
    task = pipe.Task(Header("video", "mp4"), 9, 9, 9, 9, 0.5, 9)
    with path.open("rb") as file, ours, theirs:
        pipe.tell(theirs, said)
        with pytest.raises(MediaTooLarge, match=f"longer than {seconds} s"):
            decoder.decode(task, file.fileno(), 0.5, lambda said: None, None)


def test_a_decoders_peak_is_measured(report: dict[str, Any]) -> None:
    """Else the limit above would say nothing: pictures of a hundred million pixels are in it."""
    assert report["worst_mb"][0] > 200
    assert report["ended_by_a_limit"] > 0
    assert images.MB == 1_000_000
