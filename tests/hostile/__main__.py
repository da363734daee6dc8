"""`python -m tests.hostile [--minutes N] [--seed S]`: every file of the corpus through real decoder processes, then
seeded damage to honest files until the time is over; what became of them is told at the end.

The exit code is 0 when nothing escaped, every file was decoded or refused by name, and none took more memory or time
than a decoder may have. A file is made again by its name: `--only "png iCCP bomb"`, or `--only "mkv, damaged 7.1234"`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import disguises, images, mutate, videos
from tests.hostile.case import Case
from tests.hostile.watch import Outcome, Watch

MOST_MB = 512.0


LONG = ("million frames", "5,000 tracks", "500,000 edits", "50,000 fragments", "100 frames of 4000", "20,000 frames")
"""Of these a decoder takes what it may: passed over where there is little time."""


def corpus(watch: Watch, *, is_reduced: bool = False) -> Iterator[Case]:
    for case in (*disguises.cases(watch.canary, watch.port), *images.cases(), *videos.cases()):
        if not (is_reduced and any(name in case.name for name in LONG)):
            yield case


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of damaged files, after the corpus")
    parser.add_argument("--files", type=int, help="so many damaged files, however long they take")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--limit", type=float, default=30.0, help="media.decoder_timeout_s")
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--reduced", action="store_true", help="without what takes a decoder its whole time")
    parser.add_argument("--verbose", action="store_true", help="a line for each file")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder, Watch(Path(folder), given.limit) as watch:
        for case in corpus(watch, is_reduced=given.reduced):
            if given.only in case.name:
                outcomes.append(_told(watch.show(case), given.verbose))
        until = time.monotonic() + given.minutes * 60
        for number, case in enumerate(_damaged(given.only, given.seed)):
            if time.monotonic() > until if given.files is None else number >= given.files:
                break
            outcomes.append(_told(watch.show(case), given.verbose))
    return report(outcomes, watch.escapes, given.seed, given.limit, given.json)


def _damaged(only: str, seed: int) -> Iterator[Case]:
    if not only:
        yield from mutate.cases(seed)
        return
    _, _, which = only.partition(", damaged ")
    if which:
        seed, turn = (int(part) for part in which.split("."))
        yield next(case for number, case in enumerate(mutate.cases(seed)) if number == turn)


def _told(outcome: Outcome, is_verbose: bool) -> Outcome:
    if is_verbose or not outcome.is_as_it_should:
        print(f"{outcome.case.name}: {outcome.verdict}, {outcome.reason} ({outcome.seconds:.1f} s, {outcome.peak_mb:.0f} MB)", file=sys.stderr)  # noqa: E501  # fmt: skip
    return outcome


def report(outcomes: list[Outcome], escapes: list[str], seed: int, limit_s: float, is_json: bool) -> int:
    """Print it; the exit code."""
    wrong = [one for one in outcomes if not one.is_as_it_should]
    over = [one for one in outcomes if one.peak_mb > MOST_MB or one.seconds > limit_s + 5]
    heaviest = max(outcomes, key=lambda one: one.peak_mb)
    slowest = max(outcomes, key=lambda one: one.seconds)
    verdicts = Counter(one.verdict for one in outcomes)
    reasons = Counter(_plain(one.reason) for one in outcomes if one.verdict == "refused")
    figures = {
        "seed": seed,
        "files": len(outcomes),
        "decoded": verdicts["decoded"],
        "refused": verdicts["refused"],
        "ended_by_a_limit": sum(one.is_by_limit for one in outcomes),
        "worst_mb": [round(heaviest.peak_mb), heaviest.case.name],
        "worst_s": [round(slowest.seconds, 1), slowest.case.name],
        "not_as_expected": [[one.case.name, one.verdict, one.reason] for one in wrong],
        "over_a_limit": [[one.case.name, round(one.peak_mb), round(one.seconds, 1)] for one in over],
        "escapes": escapes,
        "refused_because": dict(reasons.most_common()),
    }
    if is_json:
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            print(
                f"{name.replace('_', ' ')}: {figure}" if not isinstance(figure, dict) else f"{name.replace('_', ' ')}:"
            )
            for reason, count in figure.items() if isinstance(figure, dict) else ():
                print(f"{count:8}  {reason}")
    return int(bool(wrong or over or escapes))


def _plain(reason: str) -> str:
    """Refusals that differ in their figures only are one."""
    words = ("N" if any(letter.isdigit() for letter in word) else word for word in reason.split())
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
