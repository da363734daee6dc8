"""The decoder process: `python -m appliance.media.decoder FD MEMORY_MB`. Decodes one file after another for its parent,
and can do nothing else: no network, no path to open, little memory. It is killed when it takes too long, and replaced.
"""

import contextlib
import os
import socket
import sys

from appliance.media import sandbox


def main(line: socket.socket, memory_mb: int) -> None:
    """Until the parent hangs up."""
    # 1. while there is one thread, and before anything large is loaded
    sandbox.leave_network()
    # 2. all that decoding needs, since nothing can be loaded later
    import cv2

    from appliance.errors import MediaTooLarge, MediaUnsupported
    from appliance.media import image, pipe, video

    cv2.setNumThreads(1)
    _warm_up()
    _silence_libraries()
    # 3. from here on it only gets less
    sandbox.limit(memory_mb, open_files=32)
    sandbox.close_files()
    pipe.tell(line, pipe.Done())
    while True:
        try:
            task, descriptor = pipe.hear_task(line)
        except (pipe.Broken, ConnectionError):
            return
        try:
            if task.header.kind == "video":
                said = video.extract(descriptor, task, lambda message: pipe.tell(line, message))
            else:
                with open(descriptor, "rb", closefd=False) as file:
                    data = file.read()
                for at_ms, picture in image.decode(data, task.header, task.max_side, task.animation_frames):
                    pipe.tell(line, pipe.Shown(at_ms, video.pixels(picture)))
                said = pipe.Done()
        except (MediaUnsupported, MediaTooLarge) as failure:
            said = pipe.Refused(failure.message, isinstance(failure, MediaTooLarge))
        except (MemoryError, cv2.error) as error:
            is_memory = isinstance(error, MemoryError) or error.code == cv2.Error.StsNoMem
            said = pipe.Refused(
                "decoding needs more memory than media.decoder_memory_mb gives" if is_memory else "the file is damaged",
                is_memory,
            )
        finally:
            os.close(descriptor)
        pipe.tell(line, said)


def _silence_libraries() -> None:
    """What libpng or libtiff have to say of a file may quote it; a traceback of ours does not."""
    sys.stderr = os.fdopen(os.dup(2), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _warm_up() -> None:
    """Once through what loads or allocates lazily, so that it is there before the door closes."""
    import cv2
    import numpy as np

    picture = np.zeros((16, 16, 3), np.uint8)
    for ending in (".jpg", ".png", ".webp", ".avif", ".tiff", ".bmp", ".gif"):
        _, data = cv2.imencode(ending, picture)
        cv2.imdecode(data, cv2.IMREAD_COLOR)


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the parent is gone; nobody is left to tell
        main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
