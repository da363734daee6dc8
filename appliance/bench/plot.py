"""Lines over time, as text for a terminal and as SVG for a page. Both by hand: a dozen lines each."""

from collections.abc import Mapping, Sequence
from html import escape

_SPARKS = "▁▂▃▄▅▆▇█"
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
_WIDTH, _HEIGHT, _LEFT, _TOP, _LEGEND = 900, 180, 70, 34, 190

Points = Sequence[tuple[float, float]]


def spark(points: Points, width: int = 60) -> str:
    """One line of text: the mean of each column, from the least to the most."""
    if not points:
        return ""
    first, last = points[0][0], points[-1][0]
    columns: list[list[float]] = [[] for _ in range(width)]
    for at, value in points:
        place = 0 if last == first else int((at - first) / (last - first) * (width - 1))
        columns[place].append(value)
    means = [sum(column) / len(column) if column else None for column in columns]
    known = [mean for mean in means if mean is not None]
    low, high = min(known), max(known)
    return "".join(
        " " if mean is None else _SPARKS[0 if high == low else int((mean - low) / (high - low) * (len(_SPARKS) - 1))]
        for mean in means
    )


def svg(panels: Mapping[str, Mapping[str, Points]], title: str) -> str:
    """A picture of several panels below each other, each with its lines by name; the axes begin at nothing."""
    height = _TOP + len(panels) * (_HEIGHT + _TOP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + _LEGEND} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for place, (name, lines) in enumerate(panels.items()):
        parts += _panel(name, lines, _TOP + place * (_HEIGHT + _TOP) + 10)
    return "\n".join([*parts, "</svg>\n"])


def _panel(name: str, lines: Mapping[str, Points], top: int) -> list[str]:
    every = [point for points in lines.values() for point in points]
    if not every:
        return []
    last = max(at for at, _ in every) or 1.0
    most = max(value for _, value in every) or 1.0
    bottom = top + _HEIGHT
    parts = [
        f'<text x="{_LEFT}" y="{top - 6}">{escape(name)}</text>',
        f'<path d="M{_LEFT},{top}V{bottom}H{_LEFT + _WIDTH}" fill="none" stroke="#888"/>',
    ]
    for share in (0.0, 0.5, 1.0):
        y, x = bottom - share * _HEIGHT, _LEFT + share * _WIDTH
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end" fill="#555">{most * share:,.4g}</text>')
        parts.append(
            f'<text x="{x:.0f}" y="{bottom + 14}" text-anchor="middle" fill="#555">{last * share:.0f} s</text>'
        )
    for number, (label, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(
            f"{_LEFT + at / last * _WIDTH:.1f},{bottom - value / most * _HEIGHT:.1f}" for at, value in points
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        y = top + 12 + number * 15
        parts.append(f'<text x="{_LEFT + _WIDTH + 10}" y="{y}" fill="{colour}">{escape(label)}</text>')
    return parts
