"""`python -m appliance.doctor`: the doctor where nothing is installed yet, with the standard library alone."""

import argparse
import dataclasses
import json
import sys

from appliance import doctor
from appliance.doctor import context, said


def main(arguments: list[str] | None = None) -> int:
    """0 = all is well, 1 = something failed, 3 = warnings only, 2 = wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m appliance.doctor", description="Can this machine run Customhouse?")
    parser.add_argument(
        "names", nargs="*", metavar="GROUP", help="groups or checks; all that make sense beforehand if none"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--installed", action="store_true", help="everything, as customhouse doctor does")
    given = parser.parse_args(arguments)
    try:
        report = doctor.run(given.names, context.make(is_early=not given.installed, is_quick=given.quick))
    except KeyError as error:
        parser.error(f"there is no group or check {error}; groups: {', '.join(doctor.GROUPS)}")
    if given.json:
        print(json.dumps({**dataclasses.asdict(report), "exit_code": report.exit_code}, indent=2))
    else:
        print("\n".join(said.lines(report)))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
