"""Words that were sent, looked for in everything that was written: as they are, as base64 wherever in it they begin, as
hexadecimal digits, with percent signs, and as JSON escapes them."""

import base64
import gzip
import re
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote


def forms(word: str) -> dict[str, bytes]:
    """How a word may stand in a file. Lower case throughout; so is what it is looked for in."""
    plain = word.encode()
    found = {"plain": plain, "percent": quote(word, safe="").encode(), "hex": plain.hex().encode()}
    found["every sign in percent"] = "".join(f"%{byte:02x}" for byte in plain).encode()
    found["json"] = "".join(letter if ord(letter) < 128 else f"\\u{ord(letter):04x}" for letter in word).encode()
    for shift in range(3):
        packed = base64.b64encode(bytes(shift) + plain)
        # what of it does not depend on its neighbours
        found[f"base64, {shift} in"] = packed[(0, 2, 3)[shift] : len(packed) - 4]
    return {name: form.lower() for name, form in found.items()}


class Traces:
    """What was sent, by the name of its kind."""

    def __init__(self, sent: Mapping[str, str]) -> None:
        self._forms = {(kind, form): pattern for kind, word in sent.items() for form, pattern in forms(word).items()}

    def within(self, data: bytes) -> set[tuple[str, str]]:
        """(kind, form) of each that stands in it."""
        lowered = data.lower()
        return {name for name, pattern in self._forms.items() if pattern in lowered}

    def kinds(self, data: bytes) -> set[str]:
        return {kind for kind, _ in self.within(data)}


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder by its path in it, archives opened; a database's and what stands beside it left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or re.search(r"\.db(-wal|-shm)?$", path.name):
            continue
        name = str(path.relative_to(folder))
        yield name, path.read_bytes()
        if name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    file = archive.extractfile(member)
                    yield f"{name}/{member.name}", file.read() if file is not None else b""
        elif name.endswith(".gz"):
            yield f"{name}, opened", gzip.decompress(path.read_bytes())


def columns(database: Path) -> Iterator[tuple[str, bytes]]:
    """`table.column` and all that stands in it, of every table."""
    conn = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            for _, column, *_ in conn.execute(f'PRAGMA table_info("{table}")').fetchall():
                values = conn.execute(f'SELECT CAST("{column}" AS BLOB) FROM "{table}"').fetchall()
                yield f"{table}.{column}", b"\n".join(value for (value,) in values if value is not None)
    finally:
        conn.close()
