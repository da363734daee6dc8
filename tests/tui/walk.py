"""`python -m tests.tui.walk FILE`: a walk through the terminal UI in tmux, 80×24, real processes, real weights.

First start with nothing installed, a key, a video job, a category off, a threshold moved with its preview, the key
rotated, the model process killed and that said, a webhook sent again. Each step waits for words on the screen and fails
without them; the panes are written to FILE. Needs tmux, and CUSTOMHOUSE_TEST_WEIGHTS.
"""

import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from appliance.demo import MEDIA
from tests.test_api_server import free_port

PATIENCE_S = 60.0
_RAW_KEY = re.compile(r"stars_[A-Za-z0-9]{40}")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Refuses until it is told not to."""

    status = 500

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(Receiver.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return None


class Terminal:
    def __init__(self, command: str, environ: dict[str, str]) -> None:
        self._tmux = ("tmux", "-L", f"walk-{os.getpid()}")
        self.panes: list[str] = []
        given = [part for name, value in environ.items() for part in ("-e", f"{name}={value}")]
        size = ("-x", "80", "-y", "24")
        subprocess.run([*self._tmux, "new-session", "-d", "-s", "w", *size, *given, command], check=True)

    def see(self) -> str:
        done = subprocess.run(
            [*self._tmux, "capture-pane", "-p", "-t", "w"], check=True, capture_output=True, text=True
        )
        return done.stdout.rstrip()

    def press(self, *keys: str) -> None:
        for key in keys:
            subprocess.run([*self._tmux, "send-keys", "-t", "w", key], check=True)
            time.sleep(0.5)

    def type(self, words: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", "w", "-l", words], check=True)
        time.sleep(0.5)

    def wait(self, words: str, title: str) -> str:
        """Until these words are there; the pane is kept under the title."""
        until = time.monotonic() + PATIENCE_S
        while not re.search(words, seen := self.see()):
            if time.monotonic() > until:
                raise SystemExit(f"{title}: {words!r} did not come; this was seen:\n{seen}")
            time.sleep(0.2)
        time.sleep(0.6)
        seen = self.see()
        self.panes.append(f"## {title}\n\n```\n{_RAW_KEY.sub('stars_' + '•' * 40, seen)}\n```\n")
        print(title, file=sys.stderr)
        return seen

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False)


def main(target: Path) -> None:
    weights = Path(os.environ["CUSTOMHOUSE_TEST_WEIGHTS"]).resolve()
    scratch = Path(tempfile.mkdtemp(prefix="customhouse-walk-"))
    home, port = scratch / "home", free_port()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    environ = {
        "CUSTOMHOUSE_HOME": str(home),
        "CUSTOMHOUSE_SERVER_PORT": str(port),
        "CUSTOMHOUSE_MEDIA_ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
        "CUSTOMHOUSE_WEBHOOKS_MAX_ATTEMPTS": "1",
        "XDG_CONFIG_HOME": str(scratch / "config"),
    }
    customhouse = f"{sys.executable} -m appliance"
    terminal = Terminal(f"{customhouse} tui", environ)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        _walk(terminal, processes, environ, home, weights, f"http://127.0.0.1:{port}", receiver.server_address[1])
    finally:
        terminal.close()
        for one in processes.values():
            one.send_signal(signal.SIGTERM)
        for one in processes.values():
            one.wait()
        receiver.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
    target.write_text(
        "# A walk through the terminal UI\n\nMade by `python -m tests.tui.walk`.\n\n" + "\n".join(terminal.panes)
    )


def _walk(
    see: Terminal,
    processes: dict[str, subprocess.Popen[bytes]],
    environ: dict[str, str],
    home: Path,
    weights: Path,
    url: str,
    hook: int,
) -> None:
    see.wait("Nothing is running", "First start: nothing installed, nothing running")
    shutil.rmtree(home / "weights")
    (home / "weights").symlink_to(weights)
    for name in ("serve", "work", "infer"):
        processes[name] = subprocess.Popen(
            [sys.executable, "-m", "appliance", name],
            env={**os.environ, **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    see.wait(r"● API[\s\S]*● worker[\s\S]*● models[\s\S]*● text-heads ", "Weights are there, and three processes")

    see.press("g", "k")
    see.wait("no keys yet", "Keys: none")
    see.press("n")
    see.wait("Name of the new organisation", "A new key")
    see.type("Harbour")
    see.press("Tab")
    see.type("website")
    see.press("Enter")
    key = _RAW_KEY.search(see.wait("this once", "It is shown this once"))
    while key is None:  # the notice stood over it
        key = _RAW_KEY.search(see.see())
    see.press("Escape")

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key[0]}"}, timeout=30) as api:
        _walk_jobs(see, api, hook)
    see.press("g", "c")
    see.wait("Harbour +on +on +on", "Categories: the four checks")
    see.press("1")
    see.wait("Reason", "nsfw is to be off: why")
    see.press("BTab")  # the focus begins on Cancel
    see.type("a trial of a week")
    see.press("Enter")
    see.wait("Harbour +OFF", "It is off")
    see.press("u")
    see.wait("Harbour +on +on", "And taken back")
    see.press("t")
    see.wait("opennsfw:nsfw", "Thresholds")
    see.press("Enter")
    see.wait("Of the last", "One is moved, and what would flip is counted")
    see.press(*["Down"] * 5, "Tab")
    see.type("a stricter week")
    see.wait(r"0\.45", "Lower by five hundredths")
    see.press("Enter")
    see.wait("moved", "It is moved")

    see.press("g", "k")
    see.wait("website", "Back at the keys")
    see.press("r")
    see.wait("[Rr]otate", "Rotate the key")
    see.press("Tab")
    see.type("a colleague left")
    see.press("Enter")
    see.wait("this once", "The new one, this once")
    see.press("Escape")

    processes["infer"].kill()
    processes.pop("infer").wait()
    see.press("g", "o")
    see.wait("model process", "The model process was killed: every screen says so")


def _walk_jobs(see: Terminal, api: httpx.Client, hook: int) -> None:
    answer: Any = api.post("/api/v1/webhook/register", json={"url": f"http://127.0.0.1:{hook}/hook"})
    assert answer.status_code in (200, 201), answer.text
    see.press("g", "j")
    see.wait("no jobs yet", "Jobs: none")
    clip = next(MEDIA.glob("*.webm"))
    answer = api.post("/api/v1/moderate/video", files={"video_file": (clip.name, clip.read_bytes(), "video/webm")})
    assert answer.status_code == 202, answer.text
    see.wait("video +[…✓]", "A video was submitted")
    see.wait("video +✓ passed", "It passed")
    see.press("Enter")
    see.wait("Decided by", "Why")
    see.press("Escape")
    see.press("g", "w")
    see.wait("✗|failed", "Webhooks: the receiver refused")
    Receiver.status = 200
    see.press("Tab", "r")
    see.wait("Send it again", "To be sent again: why")
    see.type("the receiver is repaired")
    see.press("Enter")
    see.wait("✓|delivered|succeeded", "It arrived")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not shutil.which("tmux"):
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
