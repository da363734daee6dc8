"""A comment's text: what of an HTML comment is read, its sentences, and the way back to offsets in what was sent."""

import html
import re

import msgspec

_NAME = re.compile(r"/?\s*([A-Za-z][A-Za-z0-9]*)")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")
_SPLIT_AT = re.compile(
    "address|article|aside|blockquote|br|d[dlt]|div|footer|h[1-6]|header|hr|li|main|nav|ol|p|pre|section|table|t[dhr]|ul"
)
"""Tags at which a word ends, as a browser shows them."""
_UNSEEN = ("script", "style")

_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’)\]]*(?=\s)|\n+")
_MOST_SENTENCES = 100  # each costs the models as much as a comment of its own


class Plain(msgspec.Struct, frozen=True):
    """What is read; character i of it stands for [starts[i], ends[i]) of what was sent."""

    text: str
    starts: list[int] | range
    ends: list[int] | range

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in what was sent of [start, end) here; of nothing, nothing."""
        return (self.starts[start], self.ends[end - 1]) if start < end else (0, 0)


def plain(text: str) -> Plain:
    """Of PLAIN_TEXT: itself."""
    return Plain(text, range(len(text)), range(1, len(text) + 1))


def stripped(text: str) -> Plain:
    """Of HTML: without tags, comments, scripts and styles, with entities read. In one pass over the text, however it is
    malformed."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def add(piece: str, start: int, end: int) -> None:
        pieces.append(piece)
        starts.extend([start] * len(piece))
        ends.extend([end] * len(piece))

    at, size, gone = 0, len(text), {">": False, "-->": False}
    lower = text.lower() if len(text.lower()) == size else text
    while at < size:
        sign = text[at]
        sign_after = text[at + 1 : at + 2]
        if sign == "<" and sign_after and (sign_after in "/!?" or sign_after.isalpha()):
            mark = "-->" if text.startswith("<!--", at) else ">"
            found = -1 if gone[mark] else text.find(mark, at + 1)
            if found >= 0:
                name = _NAME.match(text, at + 1)
                tag = name[1].lower() if name else ""
                if _SPLIT_AT.fullmatch(tag):
                    add("\n", at, found + 1)
                at = found + len(mark)
                if tag in _UNSEEN and sign_after not in "/!?":
                    closing = lower.find(f"</{tag}", at)
                    at = closing if closing >= 0 else size
                continue
            gone[mark] = True  # looked for once: a page of "<" is no reason to read it as often
        if sign == "&" and (entity := _ENTITY.match(text, at)):
            add(html.unescape(entity[0]), at, entity.end())
            at = entity.end()
            continue
        add(sign, at, at + 1)
        at += 1
    return Plain("".join(pieces), starts, ends)


def sentences(text: str) -> list[tuple[int, int]]:
    """[start, end) of each, without the space around it; of a text with over a hundred, some together."""
    found: list[tuple[int, int]] = []
    begin = 0
    for end in [*(one.end() for one in _SENTENCE_END.finditer(text)), len(text)]:
        piece = text[begin:end]
        if piece.strip():
            found.append((begin + len(piece) - len(piece.lstrip()), begin + len(piece.rstrip())))
        begin = end
    together = -(-len(found) // _MOST_SENTENCES)
    if together <= 1:
        return found
    groups = [found[index : index + together] for index in range(0, len(found), together)]
    return [(group[0][0], group[-1][1]) for group in groups]
