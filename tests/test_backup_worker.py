"""The worker's part in backups: one is made when it is due, and the continuous copy is kept running."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import clock
from appliance.backup import follow, replay, shelf
from appliance.house import House
from appliance.settings import Backups
from appliance.work import backups
from tests.cast import Person
from tests.test_retention import close, prompt

PATIENCE_S = 120.0


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def test_a_backup_is_made_when_it_is_due_and_only_then(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    backups.Due(msgspec.structs.replace(house.settings, backup=Backups(every_hours=0))).once()
    assert shelf.every(house.settings.backup_folder) == []
    due = backups.Due(house.settings)
    due.once()
    (made,) = shelf.every(house.settings.backup_folder)
    assert made.why == "schedule"
    due.once()
    assert shelf.every(house.settings.backup_folder) == [made]
    monkeypatch.setenv("CUSTOMHOUSE_BACKUP_RECIPIENTS", "age1nonsense")
    shelf.beside(made.path).unlink()
    made.path.unlink()
    with pytest.raises(backups.NotMade):
        due.once()


def test_the_copy_is_kept_running_and_ends_with_the_worker(
    house: House, alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other-disk"
    monkeypatch.setenv("CUSTOMHOUSE_BACKUP_FOLLOW_FOLDER", str(folder))
    ours = msgspec.structs.replace(house.settings, backup=Backups(follow="on", follow_folder=str(folder)))
    stop = threading.Event()
    thread = threading.Thread(target=backups.follow, args=(ours, stop))
    thread.start()
    try:
        first = wait_for(lambda: (found := follow.status(ours)) and found.through_ms and found)
        os.kill(first.pid, signal.SIGKILL)
        second = wait_for(
            lambda: (found := follow.status(ours)) and found.pid != first.pid and found.through_ms and found
        )
        job = prompt(house, alice, "a lighthouse")
        close(house, job)
    finally:
        stop.set()
        thread.join()
    assert subprocess.run(["kill", "-0", str(second.pid)], stderr=subprocess.DEVNULL).returncode != 0
    into = tmp_path / "laid"
    into.mkdir()
    replay.rebuild(folder, into)
    last = follow.status(ours)
    assert last is not None
    assert last.through_ms <= clock.now_ms()
    assert shelf.every(house.settings.backup_folder) == []
    assert job in (into / "customhouse.db").read_bytes().decode("latin-1")


def test_switched_off_it_does_not_run(house: House) -> None:
    backups.follow(house.settings, threading.Event())
    assert follow.status(house.settings) is None
