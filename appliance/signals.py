"""Being told to end (SIGTERM, SIGINT), heard whatever the threads are doing."""

import os
import signal
import threading

TO_END = frozenset((signal.SIGTERM, signal.SIGINT))


def set_when_told(stop: threading.Event) -> None:
    """From now on `stop` is set when a signal tells this process to end. For the main thread, once a process.

    A handler that sets it would not do. The kernel may give the signal to any thread, and a main thread that waits for
    a lock, as in Event.wait, is then not woken to run the handler; one that runs it inside that very Event's lock waits
    for itself for ever. The C part of the interpreter writes a byte at once, in whichever thread, and ours reads it.
    """
    ear, mouth = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(mouth, False)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    for number in TO_END:
        signal.signal(number, _leave_it_to_the_byte)

    def listen() -> None:
        while TO_END.isdisjoint(os.read(ear, 64)):
            pass
        stop.set()

    threading.Thread(target=listen, name="signals", daemon=True).start()


def _leave_it_to_the_byte(*_: object) -> None:
    pass
