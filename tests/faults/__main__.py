"""The campaign of faults: `python -m tests.faults --seed 1 --faults 300`, or `--full`.

Four parts. Enumerated: each write, sync, opening and removal of one submission to verdict fails, is cut short, is the
process's last, or the last before the power goes. Live: processes are killed, stopped, starved, their files torn, their
clock and their neighbours broken, while clients go on. Confined: the same on a small disk of its own that fills up and
turns read-only. Upgrades: killed anywhere between their steps. After each it is asked: is every accepted job there and
closed, each once; is each webhook told, and never two ways; do ledger, rows and pages hold; does /health say what is
wrong, and that it is well again.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.fakestripe import serving
from tests.faults import confined, enumerated, shim, upgrades
from tests.faults.box import Box
from tests.faults.live import SCENARIOS
from tests.faults.nursery import Fault
from tests.faults.report import Record, Report
from tests.faults.shim import Act, Op

FULL = 10_000
_LIVE = 95
"""About so many faults are in one round of the scenarios."""
_A_BENCH = 400

_NAMED = [*SCENARIOS, *confined.FAULTS, upgrades.KIND]

Say = Callable[[str], None]


def quiet(_: str) -> None:
    return None


def campaign(
    folder: Path,
    faults: int,
    seed: int,
    *,
    scenarios: Sequence[str] | None = None,
    only: Fault | None = None,
    weights: Path | None = None,
    say: Say = quiet,
) -> Report:
    """The four parts, each beside the others. `scenarios`: of the live ones these only, and nothing else; `only`:
    this enumerated fault, and nothing else."""
    begun = time.monotonic()
    left_out: dict[str, str] = {}
    library = shim.compiled(folder)
    if library is None:
        left_out["failing calls and clock jumps"] = "there is no C compiler here to make the shim with"
    records: list[Record] = []
    counts = [0, 0]
    lock = threading.Lock()

    def add(found: list[Record], accepted: int, told: int) -> None:
        with lock:
            records.extend(found)
            counts[0] += accepted
            counts[1] += told

    def enumerate_all() -> None:
        if library is None:
            return
        done = 0

        def heard(count: int) -> None:
            say(f"{time.monotonic() - begun:5.0f} s  {done + count} calls broken")

        bench = enumerated.Bench(folder / "bench", library)
        try:
            outlived, ending = _planned(bench, faults - _LIVE, seed, only)
            while outlived or ending:
                some, last = outlived[:_A_BENCH], ending[: _A_BENCH // 4]
                outlived, ending = outlived[len(some) :], ending[len(last) :]
                enumerated.inject(bench, some, last, seed=seed, count=faults, heard=heard)
                add(bench.records, bench.there, len(bench.receiver.got))
                done += len(bench.records)
                bench.close()
                if outlived or ending:  # anew: with ten thousand jobs each look at all of them takes its time
                    bench = enumerated.Bench(folder / f"bench-{done}", library)
        finally:
            bench.close()

    def live() -> None:
        names = [name for name in (scenarios or SCENARIOS) if name in SCENARIOS]
        if names:
            found, accepted, told = _live(folder, library, weights, names, seed, max(1, faults // 1_000), say)
            add(found, accepted, told)
        if scenarios is None or any(name in confined.FAULTS for name in scenarios):
            try:
                add(confined.run(folder / "confined", seed), 0, 0)
            except PermissionError as error:
                left_out["disk full, disk read-only"] = f"no namespace with a small disk: {error}"

    def upgrade() -> None:
        if library is not None and (scenarios is None or upgrades.KIND in scenarios):
            add(upgrades.run(folder / "upgrades", library, seed, max(3, faults // 100)), 0, 0)

    parts: list[Callable[[], None]] = [enumerate_all] if only else [live, upgrade]
    if only is None and scenarios is None:
        parts.append(enumerate_all)
    broken: list[str] = []

    def part(act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            broken.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=part, args=(act,)) for act in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        records.append(Record("the campaign itself", "broke off", {"broke off": broken}, repeat=f"--seed {seed}"))
    return Report(seed, time.monotonic() - begun, counts[0], counts[1], records, left_out)


def _planned(bench: enumerated.Bench, count: int, seed: int, only: Fault | None) -> tuple[list[Fault], list[Fault]]:
    """Those that a process outlives, and those that end it."""
    if only is None:
        return enumerated.planned(bench, count, seed)
    bench.run([Fault(Op.ANY, Act.COUNT, 1, "")])
    return ([], [only]) if only.act in enumerated.KILLS or only.from_start else ([only], [])


def _live(
    folder: Path, library: Path | None, weights: Path | None, names: Sequence[str], seed: int, rounds: int, say: Say
) -> tuple[list[Record], int, int]:
    """Each scenario, so many times, each from a seed of its own."""
    records: list[Record] = []
    needs_shim = {"disk fails for a while", "single calls fail, live", "clock jumps"}
    names = [name for name in names if library is not None or name not in needs_shim]
    (folder / "live").mkdir()
    with serving() as stripe:
        box = Box(folder / "live", library, weights, stripe)
        try:
            for round_ in range(rounds):
                for name in names:
                    again = f"--seed {seed} --scenario '{name}'"
                    begun = time.monotonic()
                    wrong: dict[str, list[str]] = {}
                    count = 1
                    try:
                        count = SCENARIOS[name](box, random.Random(f"{seed} {round_} {name}"))
                    except (TimeoutError, AssertionError, OSError) as error:
                        wrong["expected"] = [f"{type(error).__name__}: {error}"]
                    box.shim.disarm()
                    broken_s = time.monotonic() - begun
                    wrong |= box.settle()
                    took_s = time.monotonic() - begun - broken_s
                    say(f"{name}: {count} faults in {broken_s:.1f} s, well again {took_s:.1f} s later {wrong or ''}")
                    records += [Record(name, f"round {round_}", {}, took_s, again) for _ in range(count - 1)]
                    records.append(Record(name, f"round {round_}", wrong, took_s, again))
            if unknown := box.unknown_jobs():
                wrong = {"jobs that nobody was told of": unknown}
                records.append(Record("live", "at the end", wrong, repeat=f"--seed {seed}"))
            return records, len(box.accepted), len(box.receiver.got)
        finally:
            stripe.released.set()
            box.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=360, help="about so many are injected")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} of them")
    parser.add_argument("--only", help="one enumerated fault, as the report of one that was not survived says it")
    parser.add_argument("--scenario", action="append", choices=_NAMED, help="of the live ones")
    parser.add_argument("--weights", type=Path, help="the folder of fetched models, to run with those, not a small one")
    parser.add_argument("--report", type=Path, help="where the report goes as JSON, and its table beside it as .txt")
    asked = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="customhouse-faults-", ignore_cleanup_errors=True) as folder:
        report = campaign(
            Path(folder),
            FULL if asked.full else asked.faults,
            asked.seed,
            scenarios=asked.scenario,
            only=msgspec.json.decode(asked.only, type=Fault) if asked.only else None,
            weights=asked.weights,
            say=say,
        )
        if report.failed:
            for log in Path(folder).glob("*/*.log"):
                print(f"--- {log.name}\n{log.read_text()[-3_000:]}", file=sys.stderr)
    print(report.table())
    print(report.complaints())
    if asked.report is not None:
        report.write(asked.report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
