"""Units as a version keeps them, before a systemctl that writes down what it is asked. No systemd runs here."""

from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Misconfigured
from appliance.release.journal import Journal
from appliance.release.release import Release
from appliance.release.road import BACK, FORWARD, Box, Going
from appliance.services import Nobody, Systemd

OLD = {"customhouse-api.service": "old api\n", "customhouse-worker.service": "worker\n"}
NEW = {
    "customhouse-api.service": "new api\n",
    "customhouse-worker.service": "worker\n",
    "customhouse-sweep.timer": "new only\n",
    "customhouse-api.service.d/10-backoff.conf": "new only, beside\n",
}


class Machine:
    """Where systemd looks for units, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "system"
        self.asked = folder / "asked"
        program = folder / "systemctl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {self.asked}\n'
            f'case "$*" in *FragmentPath*) [ ! -e {self.place}/customhouse-api.service ] '
            f"|| echo {self.place}/customhouse-api.service ;; esac\n"
            f"[ ! -e {folder}/refuses ] || [ $1 != daemon-reload ] || {{ echo no >&2; exit 1; }}\n"
        )
        program.chmod(0o755)
        self.systemd = Systemd(systemctl=[str(program)])

    def reloads(self) -> int:
        return self.asked.read_text().count("daemon-reload") if self.asked.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def lies(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_units_of_a_version_take_the_place_of_the_others(machine: Machine, tmp_path: Path) -> None:
    lay(machine.place, NEW)
    old, new = lay(tmp_path / "old", OLD), lay(tmp_path / "new", NEW)
    changed = machine.systemd.take_units(old, new)
    assert changed == sorted(["customhouse-api.service", *(NEW.keys() - OLD.keys())])
    assert lies(machine.place) == OLD
    assert machine.systemd.take_units(new, old) == changed
    assert lies(machine.place) == NEW
    assert machine.reloads() == 2


def test_where_nothing_differs_systemd_is_told_nothing(machine: Machine, tmp_path: Path) -> None:
    lay(machine.place, NEW)
    assert machine.systemd.take_units(lay(tmp_path / "new", NEW), lay(tmp_path / "old", OLD)) == []
    assert machine.reloads() == 0


def test_what_the_operator_wrote_stays(machine: Machine, tmp_path: Path) -> None:
    own = {"customhouse-api.service.d/override.conf": "mine\n", "customhouse-sweep.timer": "changed by me\n"}
    lay(machine.place, {**NEW, **own})
    machine.systemd.take_units(lay(tmp_path / "old", OLD), lay(tmp_path / "new", NEW))
    assert lies(machine.place) == {**OLD, **own}


def test_a_version_that_keeps_no_units_changes_none(machine: Machine, tmp_path: Path) -> None:
    lay(machine.place, NEW)
    assert machine.systemd.take_units(tmp_path / "nothing", lay(tmp_path / "new", NEW)) == []
    assert lies(machine.place) == NEW


def test_units_that_are_not_installed_are_not_put_there(machine: Machine, tmp_path: Path) -> None:
    assert machine.systemd.take_units(lay(tmp_path / "old", OLD)) == []
    assert not machine.place.exists()


def test_a_systemd_that_refuses_is_said(machine: Machine, tmp_path: Path) -> None:
    lay(machine.place, NEW)
    (tmp_path / "refuses").touch()
    with pytest.raises(Misconfigured, match="systemctl daemon-reload: no"):
        machine.systemd.take_units(lay(tmp_path / "old", OLD))


def test_both_ways_take_them_before_anything_is_started(tmp_path: Path) -> None:
    taken: list[tuple[Path, Path | None]] = []

    class Told(Nobody):
        def take_units(self, folder: Path, instead_of: Path | None = None) -> list[str]:
            taken.append((folder, instead_of))
            return []

    nothing: Any = None
    box = Box(tmp_path, nothing, Told(), "operator:test", nothing)
    to = Release("0.2.0", "0.2.0", "020_x", 20, "0", "", "")
    for steps, before in ((FORWARD, "0.1.0"), (BACK, "0.3.0")):
        names = [name for name, _ in steps]
        assert names.index("units") < names.index("start-inner")
        dict(steps)["units"](Going(box, Journal("activate", "0.2.0", before), to))
    versions = tmp_path / "versions"
    assert taken == [(versions / "0.2.0/units", versions / f"{before}/units") for before in ("0.1.0", "0.3.0")]
