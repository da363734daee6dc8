"""Log lines: facts with fields; no key, no secret, no sentence that could quote content."""

import io
import json
import logging
from pathlib import Path

import msgspec
import pytest

from appliance import log, supervisor
from appliance.errors import MediaUnreachable, Misconfigured
from appliance.settings import Log, Settings, load


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_fact_is_a_json_line_with_its_fields(stream: io.StringIO) -> None:
    log.configure(Log(format="json"), stream)
    logging.getLogger("appliance.jobs").info("job closed", extra={"job": "a", "ms": 1.5, "ok": True, "nothing": None})
    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "appliance.jobs",
        "event": "job closed",
        "job": "a",
        "ms": 1.5,
        "ok": True,
    }


def test_or_a_line_for_people(stream: io.StringIO) -> None:
    log.configure(Log(format="text"), stream)
    logging.getLogger("x").warning("job failed", extra={"job": "a"})
    assert stream.getvalue().endswith("WARNING job failed  job=a\n")


@pytest.mark.parametrize(
    "secret",
    [
        "stars_" + "a" * 40,
        "omad_live_" + "b" * 40,
        "omad_test_" + "c" * 40,
        "whsec_" + "dEf/" * 8 + "==",
        "Bearer " + "e" * 20,
        "bearer stars_" + "f" * 40,
        "rk_live_" + "g" * 24,
    ],
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_never_prints_wherever_it_stands(stream: io.StringIO, form: str, secret: str) -> None:
    log.configure(Log(format=form), stream)
    try:
        raise OSError(f"cannot open {secret}")
    except OSError:
        logging.getLogger("x").exception(f"sent {secret}", extra={"what": secret, "url": f"http://x/?k={secret}"})
    assert secret.split(" ")[-1] not in stream.getvalue()


@pytest.mark.parametrize(
    "name", ["authorization", "Authorization", "api_key", "x_api_key", "secret", "password", "token"]
)
def test_a_field_that_is_named_like_a_secret_is_left_out(stream: io.StringIO, name: str) -> None:
    log.configure(Log(format="json"), stream)
    logging.getLogger("x").info("done", extra={name: "heronmark"})
    assert lines(stream)[0][name] == "…"


def test_a_keys_prefix_is_readable(stream: io.StringIO) -> None:
    log.configure(Log(format="json"), stream)
    logging.getLogger("x").info("done", extra={"key": "stars_AbCdEf"})
    assert lines(stream)[0]["key"] == "stars_AbCdEf"


def test_a_traceback_has_frames_and_classes_but_no_foreign_sentence(stream: io.StringIO) -> None:
    log.configure(Log(format="json"), stream)
    try:
        try:
            {}["heronmark"]
        except KeyError as error:
            raise ValueError("it was heronmark") from error
    except ValueError:
        logging.getLogger("x").exception("job failed")
    said = str(lines(stream)[0]["traceback"])
    assert "builtins.KeyError" in said
    assert "builtins.ValueError" in said
    assert "test_log.py" in said
    assert "it was heronmark" not in said.replace('raise ValueError("it was heronmark")', "")


def test_our_own_sentences_are_kept(stream: io.StringIO) -> None:
    log.configure(Log(format="text"), stream)
    try:
        raise MediaUnreachable("the host answered 404", permanent=True)
    except MediaUnreachable:
        logging.getLogger("x").exception("child failed")
    assert "MediaUnreachable: the host answered 404" in stream.getvalue()


def test_configuring_again_replaces(stream: io.StringIO) -> None:
    log.configure(Log(), io.StringIO())
    log.configure(Log(level="warning", format="json"), stream)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_level_that_is_none_is_said_at_start() -> None:
    with pytest.raises(Misconfigured, match=r"log\.level is 'loud'"):
        log.configure(Log(level="loud"))


def test_client_libraries_do_not_log_addresses_at_info(stream: io.StringIO) -> None:
    log.configure(Log(level="info", format="json"), stream)
    logging.getLogger("httpx").info("HTTP Request: GET http://x/heronmark")
    assert stream.getvalue() == ""


def test_lines_also_go_to_a_file_that_only_we_and_our_group_read(tmp_path: Path) -> None:
    file = tmp_path / "log" / "api.log"
    log.configure(Log(), io.StringIO(), file=file)
    logging.getLogger("test").warning("job closed", extra={"job": "7"})
    (line,) = file.read_text().splitlines()
    assert json.loads(line) | {"time": ""} == {
        "time": "", "level": "warning", "logger": "test", "event": "job closed", "job": "7",
    }  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o640
    log.configure(Log(), io.StringIO())


def test_a_file_that_has_grown_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    file = tmp_path / "api.log"
    one, other = log.Rotated(file, 400, 3), log.Rotated(file, 400, 3)  # as two API processes
    for number in range(40):
        record = logging.makeLogRecord({"msg": f"line {number:02}", "levelno": 20, "levelname": "INFO", "name": "t"})
        (one if number % 2 else other).emit(record)
    one.close()
    other.close()
    kept = [file, file.with_name("api.log.1"), file.with_name("api.log.2")]
    assert sorted(path.name for path in tmp_path.glob("api.log*")) == [path.name for path in kept]
    seen = [json.loads(line)["event"] for path in reversed(kept) for line in path.read_text().splitlines()]
    assert len(set(seen)) == len(seen)  # none twice
    assert set(seen) >= {f"line {number:02}" for number in range(36, 40)}
    assert all(path.stat().st_size < 600 for path in kept)


def test_a_handler_that_a_library_closes_opens_its_file_again_and_writes_to_nobody_elses(tmp_path: Path) -> None:
    # 2026-11-21: Granian's logging.config.dictConfig closed it; the number was a socket's by then, and got the lines
    handler = log.Rotated(tmp_path / "api.log", 1000, 2)
    handler.close()
    with (tmp_path / "other").open("wb") as other:  # takes the number
        handler.emit(logging.makeLogRecord({"msg": "api ready", "levelno": 20, "levelname": "INFO", "name": "t"}))
        handler.close()
        assert other.tell() == 0
    assert (tmp_path / "other").read_bytes() == b""
    assert "api ready" in (tmp_path / "api.log").read_text()


def test_under_customhouse_up_files_are_written_unless_they_are_off(settings: Settings) -> None:
    assert settings.log_file("api") is None
    assert supervisor.with_files(settings).log_file("api") == settings.home / "log" / "api.log"
    off = msgspec.structs.replace(settings, log=Log(files="off"))
    assert supervisor.with_files(off).log_file("api") is None
    with pytest.raises(Misconfigured, match=r"log\.files"):
        load(environ={"CUSTOMHOUSE_LOG_FILES": "perhaps"})
