"""One picture through the HTTP API on this machine, with the key in KEY: what a customer's program does. For chroot.sh.

With the standard library alone, and not with ours: what is asked is what anybody could ask.
"""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path

ADDRESS = f"http://127.0.0.1:{os.environ.get('CUSTOMHOUSE_SERVER_PORT', '8000')}/api/v1"
_PATIENCE_S = 180


def main(picture: Path) -> int:
    """Submit, wait, print the verdict; 1 when none came."""
    boundary = "customhouse-a-picture"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image_file"; filename="{picture.name}"\r\n'
    body = (
        f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + picture.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    )
    asked = _call("/moderate/image", body, f"multipart/form-data; boundary={boundary}")
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        job = _call(f"/job/{asked['job_id']}")
        if job["status"] not in ("queued", "processing"):
            print(f"{picture.name} over HTTP: {job['status']}, is_prohibited {job['is_prohibited']}")
            return 0 if job["is_prohibited"] is False else 1
        time.sleep(0.5)
    print(f"no verdict in {_PATIENCE_S} s")
    return 1


def keep_asking(stop: Path) -> int:
    """Ask until that file is there, as often as one organisation may; 1 when one was refused or cut off."""
    asked, longest = 0, 0.0
    while not stop.exists():
        began = time.monotonic()
        try:
            _call("/usage")
        except OSError as error:  # a status of 400 and more is one, too
            print(f"after {asked} answers: {error}")
            return 1
        asked, longest = asked + 1, max(longest, time.monotonic() - began)
        time.sleep(1.1)
    print(f"{asked} requests meanwhile, all answered 200; the slowest waited {longest:.1f} s")
    return 0


def _call(path: str, body: bytes | None = None, kind: str = "application/json") -> dict[str, object]:
    headers = {"Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": kind}
    with urllib.request.urlopen(urllib.request.Request(ADDRESS + path, body, headers), timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(keep_asking(Path(sys.argv[2])) if sys.argv[1] == "--until" else main(Path(sys.argv[1])))
