"""What the processes wrote, read back: together, in order, filtered; from files and from journald's JSON."""

import io
import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance import log, logs
from appliance.__main__ import root
from appliance.logs import Book, View, Wanted
from appliance.settings import Log, Settings

NOON = 1_779_192_000


def write(settings: Settings, process: str, *lines: tuple[float, str, str]) -> None:
    """(seconds after noon, level, event), as that process writes them."""
    handler = log.Rotated(settings.log_dir / f"{process}.log", 10_000_000, 5)
    for after, level, event in lines:
        handler.emit(
            logging.makeLogRecord(
                {"msg": event, "levelno": getattr(logging, level), "levelname": level, "created": NOON + after}
                | {"name": "appliance.test", "job": "7"}
            )
        )
    handler.close()


@pytest.fixture
def book(settings: Settings) -> Book:
    write(settings, "api", (0, "INFO", "api ready"), (4, "WARNING", "slow"))
    write(settings, "worker", (1, "INFO", "worker ready"), (3, "ERROR", "sweep round failed"), (5, "DEBUG", "asked"))
    book = Book(settings)
    book.refresh()
    return book


def said(book: Book, **wanted: str) -> list[str]:
    view = View(book, Wanted(**wanted))
    view.extend()
    return [one.event for one in view.entries(0, len(view))]


def everything(book: Book) -> list[logs.Entry]:
    view = View(book, Wanted())
    view.extend()
    return view.entries(0, len(view))


def test_lines_of_all_processes_stand_in_the_order_of_their_moments(book: Book) -> None:
    assert said(book) == ["api ready", "worker ready", "sweep round failed", "slow", "asked"]
    assert book.processes == ["api", "worker"]
    book.close()


def test_lines_are_chosen_by_process_by_level_and_by_text_in_whichever_case(book: Book) -> None:
    assert said(book, level="warning") == ["sweep round failed", "slow"]
    assert said(book, process="api") == ["api ready", "slow"]
    assert said(book, text="READY") == ["api ready", "worker ready"]
    assert said(book, process="models") == []
    book.close()


def test_what_comes_later_is_added_even_when_the_file_was_put_aside_meanwhile(book: Book, settings: Settings) -> None:
    view = View(book, Wanted())
    view.extend()
    file = settings.log_dir / "api.log"
    with file.open("a") as half:
        half.write('{"time":"2026-05-19T12:00:09.000Z","level":"info","event":"before"}\n{"time":"2026')
    assert book.refresh() == 1
    with file.open("a") as rest:
        rest.write('-05-19T12:00:10.000Z","level":"info","event":"half a line, then all of it"}\n')
    file.rename(file.with_name("api.log.1"))
    write(settings, "api", (11, "INFO", "after"))
    assert book.refresh() == 2
    assert view.extend() == 3
    assert [one.event for one in view.entries(5, 9)] == ["before", "half a line, then all of it", "after"]
    book.close()


def test_errors_are_found_in_both_directions(book: Book) -> None:
    view = View(book, Wanted())
    view.extend()
    assert view.next_error(0, 1) == 2
    assert view.next_error(4, -1) == 2
    assert view.next_error(2, 1) is None
    book.close()


def test_one_of_a_hundred_thousand_lines_is_found(settings: Settings) -> None:
    settings.log_dir.mkdir(parents=True)
    line = '{"time":"2026-05-19T12:00:00.%03dZ","level":"info","logger":"t","event":"job closed","job":"%036d"}\n'
    with (settings.log_dir / "worker.log").open("w") as file:
        file.writelines(line % (number % 1000, number) for number in range(100_000))
    book = Book(settings)
    assert book.refresh() == 100_000
    view = View(book, Wanted(text="000000099999"))
    assert view.extend() == 1
    (one,) = view.entries(0, 1)
    assert one.fields["job"].endswith("99999")
    book.close()


def test_journald_s_lines_become_ours_with_the_process_that_the_unit_is_of() -> None:
    ours = {"time": "2026-05-19T12:00:00.000Z", "level": "warning", "logger": "a", "event": "slow", "ms": 9}
    line = {"MESSAGE": json.dumps(ours), "_SYSTEMD_UNIT": "customhouse-worker.service", "PRIORITY": "6"}
    assert json.loads(logs.from_journal(json.dumps(line).encode())) == {**ours, "process": "worker"}
    started = {
        "MESSAGE": list(b"Started Customhouse."),
        "UNIT": "customhouse-api.service",
        "PRIORITY": "3",
        "__REALTIME_TIMESTAMP": "1779192000500000",
    }
    assert json.loads(logs.from_journal(json.dumps(started).encode())) == {
        "time": "2026-05-19T12:00:00.500Z",
        "level": "error",
        "logger": "customhouse-api.service",
        "event": "Started Customhouse.",
        "process": "systemd",
    }


def test_where_there_are_no_files_journalctl_is_followed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"time": "2026-05-19T12:00:01.000Z", "level": "error", "logger": "a", "event": "slow"}
    said = [
        {"MESSAGE": json.dumps(ours), "_SYSTEMD_UNIT": "customhouse-inference.service"},
        {"MESSAGE": "Stopped.", "UNIT": "customhouse-worker.service", "__REALTIME_TIMESTAMP": "1779192009000000"},
    ]
    program = tmp_path / "journalctl"
    (tmp_path / "said").write_text("".join(json.dumps(one) + "\n" for one in said))
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/said\nexec sleep 600\n')
    program.chmod(0o755)
    monkeypatch.setattr("appliance.logs.shutil.which", lambda _: str(program))
    monkeypatch.setattr(logs, "_JOURNALD", tmp_path)
    book = Book(settings)
    while len(book) < 2:
        book.refresh()
    assert [(one.process, one.event) for one in everything(book)] == [("models", "slow"), ("systemd", "Stopped.")]
    assert book.where == "journald, units customhouse*"
    assert (tmp_path / "asked").read_text().strip() == "--output=json --follow --lines=20000 --unit=customhouse*"
    book.close()


def test_without_files_and_journald_it_is_said_how_to_have_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.logs.shutil.which", lambda _: None)
    book = Book(settings)
    assert (book.refresh(), len(book)) == (0, 0)
    assert "customhouse up" in book.where
    book.close()


def test_the_command_prints_them_as_text_and_as_json(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, "api", (0, "INFO", "api ready"), (1, "ERROR", "failed"), (2, "DEBUG", "asked"))
    monkeypatch.setenv("CUSTOMHOUSE_HOME", str(settings.home))
    assert CliRunner().invoke(root, ["logs"]).stdout.splitlines() == [
        "2026-05-19T12:00:00.000  api     INFO     api ready job=7",
        "2026-05-19T12:00:01.000  api     ERROR    failed job=7",
    ]
    (one,) = CliRunner().invoke(root, ["logs", "--level", "error", "--json"]).stdout.splitlines()
    assert json.loads(one) == {
        "time": "2026-05-19T12:00:01.000Z",
        "process": "api",
        "level": "error",
        "logger": "appliance.test",
        "event": "failed",
        "job": "7",
    }
    assert CliRunner().invoke(root, ["logs", "--lines", "1"]).stdout.count("\n") == 1


def test_a_secret_never_reaches_the_file(tmp_path: Path) -> None:
    file = tmp_path / "api.log"
    log.configure(Log(), io.StringIO(), file=file)
    logging.getLogger("t").warning("refused Bearer stars_abcdefghijk", extra={"api_key": "stars_abcdefghijk"})
    assert "abcdefghijk" not in file.read_text()
    log.configure(Log(), io.StringIO())
