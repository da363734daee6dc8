"""Being told to end: in processes of their own, in the two positions where a handler that sets an Event fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = "import os, signal, threading, time\n"
LISTENERS = {
    "an event": """
from appliance.signals import set_when_told
stop = threading.Event()
set_when_told(stop)
""",
    "Granian's main loop": """
from appliance.api.server import _Interrupt, _Server
server = object.__new__(_Server)
server.main_loop_interrupt = stop = _Interrupt()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, server.signal_handler_interrupt)
""",
}
SITUATIONS = {
    "another thread gets the signal, and the main one waits for a lock": """
def raised():
    time.sleep(0.3)
    signal.raise_signal({number})  # to this thread
    time.sleep(60)
threading.Thread(target=raised, daemon=True).start()
stop.wait()
""",
    "the main thread is inside the event's own lock": """
with stop._cond:
    os.kill(os.getpid(), {number})
    time.sleep(0.1)
stop.wait()
""",
    "nobody waits yet, and other signals come first": """
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
time.sleep(0.1)
assert not stop.is_set()
os.kill(os.getpid(), {number})
stop.wait()
""",
}


@pytest.mark.parametrize("number", ["signal.SIGTERM", "signal.SIGINT"])
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
@pytest.mark.parametrize("listener", LISTENERS.values(), ids=LISTENERS)
def test_it_ends(listener: str, situation: str, number: str) -> None:
    script = IMPORTED + listener + situation.replace("{number}", number) + "print('ended')"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("ended\n", "")
