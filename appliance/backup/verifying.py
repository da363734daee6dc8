"""Is a backup whole: the file against what is said beside it, every member against the manifest, the database."""

import time
from pathlib import Path

from appliance import durable
from appliance.backup import archive, copying, shelf, workplace
from appliance.backup.sealing import MAGIC, Identity
from appliance.backup.shapes import DATABASE, Manifest, Report
from appliance.errors import BackupError


def verify(path: Path, *, identity: Identity | None = None, scratch: Path | None = None) -> Report:
    """Read every byte of it. The database is laid into `scratch` (else beside the backup) to be looked at, and removed.
    Never raises for what is wrong with the backup: that is what the Report says."""
    began = time.monotonic()
    faults: list[str] = []
    manifest: Manifest | None = None
    ledger_faults: dict[str, int] = {}
    is_opened = True
    try:
        said = shelf.read(path)
        if said.sha256 and durable.digest(path) != said.sha256:
            faults.append(f"{path.name}: its sha256 is not the one that was noted as it was made: it was changed")
        with path.open("rb") as file:
            is_opened = identity is not None or file.read(len(MAGIC)) != MAGIC
        if is_opened and not faults:
            with workplace.scratch(scratch or path.parent, ".verify-") as folder:
                manifest = archive.unpack(path, folder, identity)
                checked = copying.check(folder / DATABASE)
                faults += checked.faults
                ledger_faults = checked.ledger_faults
                if checked.counts != manifest.counts:
                    faults.append("the database in it has other rows than its manifest says")
    except BackupError as error:
        faults.append(error.message)
    except OSError as error:
        faults.append(f"{error.filename or path}: {error.strerror}")
    return Report(path, faults, is_opened, manifest, ledger_faults, round(time.monotonic() - began, 3))
