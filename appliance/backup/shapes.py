"""What a backup is: the list of what is inside, what is said of it beside it, and what looking at one came to."""

from pathlib import Path

import msgspec

FORMAT = 1

MANIFEST = "manifest.json"
DATABASE = "customhouse.db"
PEPPER = "pepper"


class Member(msgspec.Struct, frozen=True):
    """One file inside."""

    name: str
    size_bytes: int
    sha256: str


class Weight(msgspec.Struct, frozen=True):
    """A file of a model: by its digest it can be fetched, or taken from a bundle, again."""

    name: str
    """MODEL/FILE below <home>/weights."""
    size_bytes: int
    sha256: str
    is_inside: bool
    """Copied: nobody else has it (trained here), or --with-weights."""


class Manifest(msgspec.Struct, frozen=True):
    """manifest.json, the first file inside."""

    format: int
    made_at_ms: int
    """When it was begun: what was committed before is in it."""
    version: str
    schema: int
    migrations: list[str]
    why: str
    members: list[Member]
    weights: list[Weight]
    counts: dict[str, int]
    """Table → rows."""
    ledger_faults: dict[str, int]
    """As `customhouse billing reconcile` says of it: sort → how many. Empty = whole."""


class Backup(msgspec.Struct, frozen=True):
    """One backup, as the file beside it says (its name and .json)."""

    path: Path
    made_at_ms: int
    bytes: int
    schema: int
    """The number of its newest migration."""
    version: str
    sha256: str
    """Of the file; empty when what said so is lost."""
    is_encrypted: bool
    why: str = ""
    counts: dict[str, int] = {}
    ledger_faults: dict[str, int] = {}
    took_s: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """What `verify` found."""

    path: Path
    faults: list[str]
    """Sentences. Empty = every byte is as it was written, and the database inside is sound."""
    is_opened: bool
    """False: it is encrypted and no identity was given, so only the file's own digest was compared."""
    manifest: Manifest | None
    ledger_faults: dict[str, int]
    took_s: float

    @property
    def is_whole(self) -> bool:
        return not self.faults
