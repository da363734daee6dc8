"""One key frame of a stream, put into a small file of its own, for decoders that cannot pass over the frames between.

FFmpeg's VP9 decoder decodes every frame whatever it is told, and the FFmpeg that OpenCV carries has no AV1 decoder at
all. But a key frame stands alone: IVF holds VP9 packets as they are, and an AVIF image is an AV1 key frame.
"""

import struct


def ivf(packets: list[bytes], width: int, height: int) -> bytes:
    """A VP9 file of these packets."""
    header = struct.pack(
        "<4sHH4sHHIIII", b"DKIF", 0, 32, b"VP90", width & 0xFFFF, height & 0xFFFF, 25, 1, len(packets), 0
    )
    return header + b"".join(struct.pack("<IQ", len(packet), i) + packet for i, packet in enumerate(packets))


def avif(packet: bytes, configuration: bytes, width: int, height: int) -> bytes:
    """An image of one AV1 key frame; `configuration` is the stream's av1C."""
    is_deep = bool(configuration[2] & 0x40)
    depth = (12 if configuration[2] & 0x20 else 10) if is_deep else 8
    channels = 1 if configuration[2] & 0x10 else 3
    file_type = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    properties = _box(
        b"ipco",
        _box(b"ispe", struct.pack(">III", 0, width, height)),
        _box(b"pixi", bytes(4) + bytes([channels]) + bytes([depth] * channels)),
        _box(b"av1C", configuration),
    )
    association = _box(b"ipma", struct.pack(">IIHB3B", 0, 1, 1, 3, 1, 2, 0x80 | 3))

    def meta(data_at: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
            _box(b"pitm", struct.pack(">IH", 0, 1)),
            _box(b"iloc", struct.pack(">IBBHHHHII", 0, 0x44, 0, 1, 1, 0, 1, data_at, len(packet))),
            _box(b"iinf", struct.pack(">IH", 0, 1), _box(b"infe", struct.pack(">IHH4sB", 2 << 24, 1, 0, b"av01", 0))),
            _box(b"iprp", properties, association),
        )

    data_at = len(file_type) + len(meta(0)) + 8
    return file_type + meta(data_at) + _box(b"mdat", packet)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body
