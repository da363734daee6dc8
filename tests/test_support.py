"""The support bundle: useful, and without a trace of content, names or keys, wherever those may stand."""

import base64
import io
import json
import re
import stat
import tarfile
import urllib.parse
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from appliance import audit, clock
from appliance.__main__ import root
from appliance.database import connect
from appliance.doctor import bundle, words
from appliance.doctor.context import Context, make
from appliance.house import House
from appliance.settings import Billing, Inference, Media
from tests import made
from tests.cast import enrol
from tests.doctored import CARD, DRIVER, HEALTHY, UNIT, Stage

MARK = "Qvxjzk7lantern"
"""Stands in no source of ours; every place below has it."""


@pytest.fixture
def stage(house: House, tmp_path: Path) -> Stage:
    return Stage(house, tmp_path)


# --- a house that is full of it ---------------------------------------------------------------------------------------


def mark_every_column(house: House) -> int:
    """A row in each table with the mark in every column that can hold a text or bytes. Returns how many columns."""
    conn = connect(house.settings.database)
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("PRAGMA ignore_check_constraints = ON")
    triggers = conn.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        conn.execute(f"DROP TRIGGER {name}")
    tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    count = 0
    for number, table in enumerate(tables):
        columns = [row for row in conn.execute(f"PRAGMA table_xinfo({table})") if row["hidden"] == 0]
        values: dict[str, Any] = {}
        for column in columns:
            text = f"{MARK} {number} {column['name']}"
            kind = column["type"].upper()
            values[column["name"]] = (
                text if kind == "TEXT" else text.encode() if kind == "BLOB" else 1_700_000_000_000 + number
            )
            count += kind in ("TEXT", "BLOB")
        names = ", ".join(f'"{name}"' for name in values)
        asked = ", ".join(f":{name}" for name in values)
        conn.execute(f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({asked})', values)
    for _, sql in triggers:
        conn.execute(sql)
    conn.close()
    return count


LOG = [
    {"time": "2026-11-21T12:00:00.000Z", "level": "info", "event": "job closed", "ms": 812, "job": MARK},
    {
        "time": "2026-11-21T12:00:01.000Z",
        "level": "info",
        "event": f"prompt was {MARK}",
        MARK: 1,
        "client": "198.51.100.7",
    },
    {"time": MARK, "level": MARK, "logger": f"appliance.{MARK}", "event": "alert raised", "why": {"deep": [MARK]}},
    {
        "event": "model not opened",
        "traceback": f'  File "/srv/{MARK}/appliance/inference/registry.py", line 170, in _opened\n    x = "{MARK}"\n'
        f'  File "/srv/{MARK}.py", line 3, in {MARK}\nValueError: {MARK}',
    },
]
LINES = [
    *(json.dumps(line) for line in LOG),
    f"12:00:01.500 INFO    job closed  job={MARK} ms=812",
    f"ValueError: {MARK}",
    f"[{MARK!r}]",
]


def fill(stage: Stage) -> Context:
    """The mark wherever a person, a customer, a model or another program can put something."""
    home = stage.settings.home
    enrol(stage.house, f"{MARK} Ltd", f"{MARK} key")
    person = enrol(stage.house, "A", "b")
    made.insert(stage.house, [made.job(person.org_id, stage.now_ms(), text=MARK, reason=MARK, request_id=MARK)])
    stage.house.db.write(
        lambda conn: audit.record(conn, f"operator:{MARK}", "key.created", MARK, reason=MARK, why=MARK)
    )
    assert mark_every_column(stage.house) > 150
    for path in (
        home / "media" / f"{MARK}.jpg",
        home / "media" / MARK / "frame-1.rgb",
        home / "weights" / MARK / "model.onnx",
        home / "weights" / "tiny" / f"{MARK}.bin",
        home / "backups" / f"{MARK}.db",
        home / "log" / f"{MARK}.log",
        home / "run" / "worker.json",
        home / f".doctor-{MARK}",
        home / "customhouse.toml",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {MARK}\n")
    (home / "log" / "worker.log").write_text("".join(f"{line}\n" for line in LINES))
    stage.settings.pepper_file.write_bytes(MARK.encode() * 4)
    (stage.models_dir / MARK).mkdir()
    manifest = (stage.models_dir / "tiny" / "manifest.toml").read_text().replace('"tiny"', f'"{MARK}"')
    (stage.models_dir / MARK / "manifest.toml").write_text(manifest.replace("Bright or dark", MARK))
    (stage.models_dir / f"{MARK}-broken").mkdir()
    (stage.models_dir / f"{MARK}-broken" / "manifest.toml").write_text(f"name = {MARK}")
    key = stage.tmp / f"{MARK}-key"
    key.write_text(f"rk_test_{MARK}\n")
    key.chmod(0o600)
    for name in ("systemctl", "timedatectl", "journalctl", "systemd-detect-virt"):
        stage.program(name, f"{UNIT}\nDescription={MARK}\nResult={MARK}\n{LINES[0]}\n{MARK}")
    stage.file("proc/sys/kernel/osrelease", f"6.8.0-{MARK}\n")
    stage.file("proc/self/mountinfo", f"1 0 8:1 / / rw - {MARK} /dev/{MARK} rw\n")
    settings = msgspec.structs.replace(
        stage.settings,
        billing=Billing(
            stripe_key_file=str(key),
            public_url=f"http://{MARK}.example",
            stripe_proxy=f"http://user:{MARK}@proxy.example",
            stripe_address=f"https://{MARK}.example",
        ),
        inference=Inference(text_judge=MARK, vision_judge=MARK, models=[MARK]),
        media=Media(allowed_private_cidrs=["10.11.12.0/24"]),
    )
    environ = {
        **stage.context.environ,
        "AWS_SECRET_ACCESS_KEY": MARK,
        "HTTPS_PROXY": f"http://user:{MARK}@proxy.example:3128",
        "CUSTOMHOUSE_BILLING_STRIPE_PROXY": f"http://user:{MARK}@proxy.example",
        f"CUSTOMHOUSE_SERVER_{MARK.upper()}": MARK,
        "CUSTOMHOUSE_WEBHOOKS_SECRET": f"whsec_{MARK}",
        "PYTHONPATH": f"/{MARK}",
        "LANG": MARK,
        "HF_ENDPOINT": f"http://{MARK}.example",
    }
    driver = replace(DRIVER, version=f"580-{MARK}", cards=[replace(CARD, name=MARK)], why=MARK)
    return replace(stage.context, settings=settings, environ=environ, driver=lambda: driver)


METRICS = f"""# HELP customhouse_requests_total {MARK}
# TYPE customhouse_requests_total counter
customhouse_requests_total{{method="GET",route="/health",status="200"}} 3
customhouse_requests_total{{method="{MARK}",route="/{MARK}",status="200"}} 1
customhouse_jobs_open{{{MARK}="1"}} 2
{MARK}_figures 1
customhouse_{MARK} 1
"""


def gathered(stage: Stage, context: Context) -> list[bundle.Part]:
    said = {**HEALTHY, "status": MARK, "degraded": [MARK], "models": {MARK: MARK}, "version": MARK, MARK: MARK}
    status = msgspec.structs.replace(
        stage.status(name=MARK, last_error=MARK, device=MARK, wanted_device=MARK, digest=MARK),
        degraded=[MARK],
        device=MARK,
    )
    with stage.api(said, METRICS), stage.model_process(status):
        return bundle.parts(context)


# --- that nothing of it comes out -------------------------------------------------------------------------------------


def forms(mark: str) -> dict[str, bytes]:
    """How the mark would look, written in another way."""
    found = {"plain": mark.encode(), "hex": mark.encode().hex().encode(), "url": urllib.parse.quote(mark).encode()}
    found["reversed"] = mark[::-1].encode()
    found["utf-16"] = mark.encode("utf-16-le")
    for shift in range(3):  # wherever it stands in what was encoded
        core = base64.b64encode(b"\0" * shift + mark.encode())[4 if shift else 0 :]
        found[f"base64 {shift}"] = core[: len(core) // 4 * 4 - 4]
        found[f"base32 {shift}"] = base64.b32encode(mark.encode())[:16]
    return found


def assert_clean(data: bytes, where: str) -> None:
    lowered = data.lower()
    for form, wanted in forms(MARK).items():
        assert wanted.lower() not in lowered, f"{where} has the mark ({form})"
    digests = re.compile(rb"[0-9a-f]{64}|[0-9a-f]{12}")
    for token in re.findall(rb"[A-Za-z0-9+/=_-]{40,}", data):  # nothing that is packed into letters
        assert digests.fullmatch(token), f"{where}: {token!r}"


def test_the_search_finds_every_form_of_the_mark() -> None:
    """Or the proof below would prove nothing."""
    text = MARK.encode()
    for hidden in (text, text.hex().encode(), base64.b64encode(b"x" + text + b"yz"), base64.b64encode(b"xy" + text)):
        with pytest.raises(AssertionError):
            assert_clean(b"before " + hidden + b" after", "here")
    with pytest.raises(AssertionError):
        assert_clean(base64.b64encode(zlib.compress(text + bytes(range(60)))), "here")
    assert_clean(b"nothing of it", "here")


def test_no_trace_of_what_people_put_in_is_in_the_bundle(stage: Stage) -> None:
    path = stage.tmp / "bundle.tar.gz"
    bundle.write(path, gathered(stage, fill(stage)))
    raw = path.read_bytes()
    assert_clean(raw, "the archive")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert len(members) == 12
        for member in members:
            assert_clean(member.name.encode(), "a name")
            file = archive.extractfile(member)
            assert file is not None
            data = file.read()
            data.decode()  # plain text, all of it
            assert b"not_read" not in data, (member.name, data)
            assert_clean(data, member.name)


def test_the_proof_would_find_a_leak(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing struck, nearly every part has the mark: it truly stands where the bundle looks."""
    context = fill(stage)
    monkeypatch.setattr(words, "is_ours", lambda text: True)
    leaking: set[str] = set()
    for part in gathered(stage, context):
        try:
            assert_clean(part.data, part.name)
        except AssertionError:
            leaking.add(part.name.rpartition("/")[2])
    assert leaking >= {
        "audit.json",
        "counts.json",
        "doctor.json",
        "log.jsonl",
        "metrics.txt",
        "models.json",
        "processes.json",
        "schema.json",
        "settings.json",
        "units.json",
    }


def test_broken_settings_leave_no_trace_either(stage: Stage) -> None:
    environ = {
        "CUSTOMHOUSE_HOME": str(stage.settings.home),
        "CUSTOMHOUSE_INFERENCE_DEVICE": MARK,
        "PATH": str(stage.bin),
    }
    context = make(environ)
    assert MARK in context.trouble  # on the screen it helps
    for part in bundle.parts(context):
        assert_clean(part.data, part.name)


def test_no_word_of_ours_has_the_mark() -> None:
    assert not any(MARK.lower() in word.lower() for word in words.ours())


# --- and that what helps does -----------------------------------------------------------------------------------------


def read(parts: list[bundle.Part], name: str) -> Any:
    data = next(part.data for part in parts if part.name.endswith(f"/{name}"))
    return json.loads(data) if name.endswith(".json") else data.decode().splitlines()


def test_what_helps_is_inside(stage: Stage) -> None:
    parts = gathered(stage, fill(stage))
    counts = read(parts, "counts.json")
    assert counts["job"]["rows"] == 2
    assert ["PROMPT_MODERATION", "completed", 1] in counts["job"]["by"]
    log = [json.loads(line) for line in read(parts, "log.jsonl")]
    assert {
        "time": "2026-11-21T12:00:00.000Z",
        "level": "info",
        "event": "job closed",
        "ms": 812,
        "job": "… (14 characters)",
    } in log
    assert {
        "time": "12:00:01.500",
        "level": "info",
        "event": "job closed",
        "job": "… (14 characters)",
        "ms": "812",
    } in log
    assert any(line.get("traceback") == ["appliance/inference/registry.py:170 _opened"] for line in log)
    assert not any("198.51.100.7" in json.dumps(line) for line in log)
    settings = {one["name"]: one for one in read(parts, "settings.json")}
    assert settings["server.port"]["value"] == stage.port
    assert settings["billing.public_url"]["value"].startswith("… (")
    assert settings["media.allowed_private_cidrs"]["value"] == "… (1 entries)"
    findings = {one["id"]: one for one in read(parts, "doctor.json")["findings"]}
    assert findings["host.memory"]["evidence"]["total_bytes"] == 33554432 * 1024
    assert findings["models.manifests"]["state"] == "failed"
    assert 'customhouse_requests_total{method="GET",route="/health",status="200"} 3' in read(parts, "metrics.txt")
    assert len(read(parts, "schema.json")["applied"]) >= 19
    assert {"action": "key.created", "lines": 1} in [
        {"action": one["action"], "lines": one["lines"]} for one in read(parts, "audit.json")
    ]
    versions = read(parts, "versions.json")
    assert versions["packages"]["click"]["installed"] == versions["packages"]["click"]["pinned"]
    assert read(parts, "units.json")["customhouse-worker.service"]["LoadState"] == "loaded"
    listed = {one["file"] for one in read(parts, "MANIFEST.json")["files"]}
    assert listed == {part.name for part in parts if not part.name.endswith("MANIFEST.json")}


def test_only_the_owner_may_read_it_and_nothing_is_written_over(stage: Stage) -> None:
    path = stage.tmp / "bundle.tar.gz"
    parts = [bundle.Part("customhouse-support/a.json", "why", b"{}")]
    bundle.write(path, parts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        bundle.write(path, parts)


def test_the_same_findings_make_the_same_bytes(stage: Stage) -> None:
    parts = [bundle.Part("customhouse-support/a.json", "why", b"{}")]
    for name in ("one", "two"):
        bundle.write(stage.tmp / name, parts)
    assert (stage.tmp / "one").read_bytes() == (stage.tmp / "two").read_bytes()
    with tarfile.open(fileobj=io.BytesIO((stage.tmp / "one").read_bytes())) as archive:
        (member,) = archive.getmembers()
        assert (member.mtime, member.uid, member.gname, member.mode) == (0, 0, "", 0o600)


def test_its_name_is_the_moment(stage: Stage) -> None:
    assert re.fullmatch(r"customhouse-support-\d{8}T\d{6}Z\.tar\.gz", bundle.file_name(clock.now()))


def _command(stage: Stage, *arguments: str, says: str = "") -> Any:
    environ = {"CUSTOMHOUSE_HOME": str(stage.settings.home), "CUSTOMHOUSE_SERVER_PORT": str(stage.port)}
    return CliRunner().invoke(root, ["support-bundle", *arguments], env=environ, input=says)


def test_it_is_listed_and_asked_for_before_it_is_written(stage: Stage) -> None:
    path = stage.tmp / "out.tar.gz"
    done = _command(stage, "--output", str(path), says="n\n")
    assert done.exit_code == 1
    assert "doctor.json" in done.output
    assert "Write " in done.output
    assert not path.exists()
    assert _command(stage, "--output", str(path), says="y\n").exit_code == 0
    assert path.exists()


def test_as_json_it_needs_to_be_told_yes(stage: Stage) -> None:
    path = stage.tmp / "out.tar.gz"
    assert _command(stage, "--json").exit_code == 2
    done = _command(stage, "--json", "--yes", "--output", str(path))
    assert done.exit_code == 0
    said = json.loads(done.output)
    assert said["path"] == str(path)
    assert {"file", "bytes", "why"} <= said["files"][0].keys()
    again = _command(stage, "--yes", "--output", str(path))
    assert again.exit_code == 1
    assert "File exists" in str(again.exception) or "File exists" in again.output
