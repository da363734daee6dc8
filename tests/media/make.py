"""How the pictures and the clip of appliance/demo/media were made: `python -m tests.media.make WHEEL FOLDER`, with
scikit-image's wheel."""

import sys
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "rocket": "rocket.jpg",
}
WIDTH, HEIGHT, FPS, SCENE_S = 640, 360, 15, 4


def main(wheel: Path, folder: Path) -> None:
    photographs: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, inside in PHOTOGRAPHS.items():
            raw = np.frombuffer(archive.read(f"skimage/data/{inside}"), np.uint8)
            photographs[name] = np.asarray(cv2.imdecode(raw, cv2.IMREAD_COLOR))
    for name, picture in photographs.items():
        _save(picture, folder / f"{name}.jpg")
    _clip(
        [photographs[name] for name in ("rocket", "astronaut", "coffee", "chelsea", "galaxies")], folder / "scenes.webm"
    )


def _save(picture: np.ndarray, path: Path) -> None:
    """At most 512 pixels a side and 60 KB."""
    scale = min(1.0, 512 / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for quality in range(92, 40, -4):
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if data.size <= 60_000:
            path.write_bytes(data.tobytes())
            return


def _clip(pictures: list[np.ndarray], path: Path) -> None:
    """A slow pan over each photograph, four seconds each, with hard cuts between; VP9, which is free of royalties."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libvpx-vp9", rate=FPS, options={"crf": "38", "cpu-used": "2", "row-mt": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 0
        for picture in pictures:
            scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0]) * 1.15
            large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            room = large.shape[1] - WIDTH, large.shape[0] - HEIGHT
            frames = FPS * SCENE_S
            for number in range(frames):
                x, y = room[0] * number // frames, room[1] * number // frames
                part = np.ascontiguousarray(large[y : y + HEIGHT, x : x + WIDTH], np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(part, "bgr24")))
        file.mux(stream.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
