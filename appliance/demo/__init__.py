"""Real pictures and a clip for the first run; their sources stand in media/SOURCES.md."""

from pathlib import Path

MEDIA = Path(__file__).resolve().parent / "media"
