"""One file a screen, named in tui/places.py; each ends in `SCREEN = itsClass`."""
