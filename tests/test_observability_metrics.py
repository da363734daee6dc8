"""What Prometheus is told, and whether the dashboard, the alerts and README speak of what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from appliance.__main__ import COMMANDS
from appliance.api import metrics
from appliance.api.figures import FAMILIES, Figures
from appliance.heartbeat import Heart
from appliance.house import House
from appliance.inference.wire import ModelState, ModelStatus, Status
from appliance.moderations import meters
from appliance.settings import SHIPPED
from tests import standins
from tests.cast import Person

CONFIG = SHIPPED / "config"
ALERTS = CONFIG / "prometheus" / "alerts.yml"
DOCUMENT = CONFIG / "prometheus" / "metrics.md"
DASHBOARD = CONFIG / "grafana" / "customhouse.json"
LABELS = {
    *("method", "route", "status", "le", "surface", "action", "mode", "reason", "outcome", "process", "round"),
    *("kind", "state", "verdict", "lane", "model", "device", "version"),
}
"""Every label there is: each takes few values, and none is a tenant's, a job's or a caller's."""
_NAME = re.compile(r"\bcustomhouse_[a-z0-9_]+")


def status() -> Status:
    model = ModelStatus("opennsfw", "image-classification", ModelState.READY, "cpu", "cuda", answered=3)
    return Status([model], "cpu", [], 1, 2**22 + 1, 5.0)


def exposed(house: House, models: Status | None) -> bytes:
    return metrics.text(house.db.reader(), {"prompts": 0}, models, house.settings)


def names(text: bytes) -> dict[str, Any]:
    """Series name → labels, of all that is exposed."""
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def every_name() -> set[str]:
    """Of the counters' and histograms' own too, which have no series until something is counted."""
    found = set(FAMILIES)
    for registry in (metrics.REGISTRY, meters.REGISTRY):
        for family in registry.collect():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}[family.type]
            found |= {f"{family.name}{end}" for end in ends}
    return found


def test_all_three_processes_are_told_of(house: House) -> None:
    Heart(house.settings.run_dir, 4).beat()
    with standins.worker(house.settings):
        found = names(exposed(house, status()))
    up = {one.labels["process"]: one.value for one in found["customhouse_process_up"]}
    assert up == {"api": 1, "worker": 1, "models": 1}
    memory = {one.labels["process"]: one.value for one in found["customhouse_process_resident_memory_bytes"]}
    assert memory["api"] > 10_000_000
    assert memory["worker"] > 10_000_000, "by the process id of its heartbeat"
    assert {one.labels["process"] for one in found["customhouse_process_open_fds"]} >= {"api", "worker"}
    assert found["customhouse_model_wrong_device"][0].value == 1
    assert found["customhouse_model_answered_total"][0].value == 3


def test_what_is_down_is_told_of_too(house: House) -> None:
    found = names(exposed(house, None))
    up = {one.labels["process"]: one.value for one in found["customhouse_process_up"]}
    assert up == {"api": 1, "worker": 0, "models": 0}
    assert found["customhouse_inference_up"][0].value == 0
    assert "customhouse_backup_age_seconds" not in found


def test_rows_and_disk_are_counted(client: TestClient[Any], house: House, alice: Person) -> None:
    client.post("/api/v1/moderate/prompt", json={"prompt": "a harbour"}, headers=alice.headers)
    backups = house.settings.backup_folder
    backups.mkdir(parents=True, exist_ok=True)
    (backups / "customhouse-x.json").write_text("{}")
    found = names(exposed(house, None))
    waiting = {(one.labels["kind"], one.labels["state"]): one.value for one in found["customhouse_jobs_waiting"]}
    assert waiting["prompt", "queued"] == 1
    assert found["customhouse_jobs_open"][0].value == 1
    assert found["customhouse_disk_free_bytes"][0].value > 0
    assert found["customhouse_database_bytes"][0].value > 0
    assert 0 <= found["customhouse_backup_age_seconds"][0].value < 3600


def test_the_end_of_our_certificate_is_told(house: House, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    made = tmp_path / "cert.pem"
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=box".split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    server = msgspec.structs.replace(
        house.settings.server, tls_certificate=str(made), tls_key=str(tmp_path / "key.pem")
    )
    with_tls = msgspec.structs.replace(house.settings, server=server)
    found = names(metrics.text(house.db.reader(), {}, None, with_tls))
    [sample] = found["customhouse_certificate_expiry_timestamp_seconds"]
    assert 1e9 < sample.value < 1e11


def test_every_family_has_its_words_and_follows_the_conventions(house: House) -> None:
    text = exposed(house, status()).decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.name.startswith("customhouse_"), family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name), family.name
        assert not re.search(r"_(ms|milliseconds|mb|percent)$", family.name), "base units only"
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, (sample.name, sample.labels)
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


def test_labels_do_not_grow_with_tenants_or_jobs_or_made_up_methods(
    client: TestClient[Any], house: House, alice: Person
) -> None:
    for number in range(5):
        client.get(f"/api/v1/job/{number}", headers=alice.headers)
        client.get(f"/nowhere/{number}")
        client.request(f"MADE{number}", "/health")
    text = exposed(house, None).decode()
    assert alice.org_id not in text
    assert alice.key_id not in text
    assert "/nowhere" not in text
    assert "MADE" not in text


def test_families_are_exactly_what_is_exposed(house: House) -> None:
    registry = CollectorRegistry()
    registry.register(Figures(house.db.reader(), {"prompts": 0}, status(), house.settings))
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(generate_latest(registry).decode())
    }
    only_with = {
        "customhouse_worker_heartbeat_age_seconds",
        "customhouse_worker_round_age_seconds",
        "customhouse_backup_age_seconds",
        "customhouse_certificate_expiry_timestamp_seconds",
    }
    assert found == set(FAMILIES) - only_with


def test_every_metric_is_documented_as_it_is() -> None:
    rows = re.findall(r"(?m)^\| `(customhouse_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", DOCUMENT.read_text())
    documented = {name: (kind, re.findall(r"`(\w+)`", labels), words) for name, kind, labels, words in rows}
    found: dict[str, tuple[str, list[str], str]] = {
        name: ("counter" if name.endswith("_total") else "gauge", list(labels), words)
        for name, (words, labels) in FAMILIES.items()
    }
    for module in (metrics, meters):
        for one in vars(module).values():
            if isinstance(one, MetricWrapperBase):
                [family] = list(one.describe())
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = family.type, list(one._labelnames), family.documentation
    assert documented == found
    assert len(rows) == len(found) > 30


def test_every_query_of_the_dashboard_names_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked: dict[str, set[str]] = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            asked[panel["title"]] = asked.get(panel["title"], set()) | set(_NAME.findall(target["expr"]))
            assert target["datasource"]["uid"] == "${datasource}"
    assert all(asked.values()), asked
    used = set().union(*asked.values())
    assert used <= every_name()
    assert set(FAMILIES) <= used, "and no figure of ours is left out"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in dashboard["panels"])


def test_every_alert_names_what_there_is_and_says_what_to_do() -> None:
    text = ALERTS.read_text()
    blocks = re.split(r"(?m)^      - alert: ", text)[1:]
    assert len(blocks) >= 15
    for block in blocks:
        name = block.splitlines()[0]
        assert re.search(r"severity: (page|ticket)\}", block), name
        assert "summary:" in block, name
        assert "description:" in block, name
        expr = block[block.index("expr:") : block.index("labels:")]
        asked = set(_NAME.findall(expr)) - {"customhouse"}
        assert asked or "up{" in expr, name
        assert asked <= every_name(), name
        for command in re.findall(r"customhouse ([a-z-]+)", block[block.index("annotations:") :]):
            assert command in COMMANDS, (name, command)


def test_every_alert_is_played_through() -> None:
    """The alerts' own tests name each of them once at least; promtool runs them, below."""
    alerts = set(re.findall(r"(?m)^      - alert: (\w+)", ALERTS.read_text()))
    played = set(re.findall(r"alertname: (\w+)", (CONFIG / "prometheus" / "alerts_test.yml").read_text()))
    assert played == alerts


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    ran = subprocess.run([promtool, *arguments], cwd=CONFIG / "prometheus", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_finds_no_fault_with_the_exposition(client: TestClient[Any], house: House) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    client.get("/health/live")
    text = exposed(house, status())
    ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
