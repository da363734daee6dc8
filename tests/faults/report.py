"""What the campaign writes down: each fault with what became of it, and the table of all."""

import json
import statistics
from collections import Counter
from pathlib import Path

import msgspec


class Record(msgspec.Struct, frozen=True):
    """One fault that was injected."""

    kind: str
    what: str
    wrong: dict[str, list[str]] = {}
    """What did not hold afterwards; empty = survived."""
    recovered_s: float | None = None
    """From the fault to all well again, accepted work done."""
    repeat: str = ""
    """The arguments that inject it again."""


class Report(msgspec.Struct, frozen=True):
    seed: int
    took_s: float
    accepted: int
    """Jobs that were promised by a 202."""
    told: int
    """Webhooks that arrived."""
    records: list[Record]
    left_out: dict[str, str] = {}
    """Kinds that could not be injected here, and why."""

    @property
    def failed(self) -> list[Record]:
        return [one for one in self.records if one.wrong]

    @property
    def lost(self) -> int:
        return sum(len(one.wrong.get("lost", [])) for one in self.records)

    def table(self) -> str:
        """A line a kind."""
        lines = [
            f"{'fault':<34}{'injected':>9}{'survived':>9}{'lost':>6}{'back after s: median':>22}{'max':>7}",
            "-" * 87,
        ]
        injected = Counter(one.kind for one in self.records)
        for kind, count in sorted(injected.items()):
            lines.append(self._line(kind, count, [one for one in self.records if one.kind == kind]))
        lines += ["-" * 87, self._line("all", len(self.records), self.records)]
        lines.append(f"{self.accepted} jobs accepted, {self.told} webhooks told, {self.took_s:.0f} s, seed {self.seed}")
        lines += [f"not injected: {kind}: {why}" for kind, why in self.left_out.items()]
        return "\n".join(lines)

    def _line(self, kind: str, count: int, records: list[Record]) -> str:
        times = [one.recovered_s for one in records if one.recovered_s is not None]
        middle, most = (f"{statistics.median(times):.2f}", f"{max(times):.1f}") if times else ("-", "-")
        survived = sum(1 for one in records if not one.wrong)
        lost = sum(len(one.wrong.get("lost", [])) for one in records)
        return f"{kind:<34}{count:>9}{survived:>9}{lost:>6}{middle:>22}{most:>7}"

    def complaints(self) -> str:
        """Each fault that was not survived, and how to have it again."""
        return "\n".join(
            f"{one.kind}: {one.what}\n  {json.dumps(one.wrong)[:2000]}\n  again: python -m tests.faults {one.repeat}"
            for one in self.failed
        )

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        path.with_suffix(".txt").write_text(f"{self.table()}\n{self.complaints()}\n")
