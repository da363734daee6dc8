"""Links as people write them, and as they write them who hide one: found in a text, taken apart, never opened."""

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import unquote

import msgspec

MOST = 200
"""Links looked at in one text: more than that is a flood whatever they are."""

_READ = 20_000  # characters; a text of the surfaces has 10 or 20 thousand at most
_SCHEME = (
    r"(?P<scheme>(?:h(?:tt|xx|\*\*|__|tx|xt)ps?|fxp|ftps?|wss?|meow)\s?(?::|\[:\]|\(:\))\s?//|(?:https?|hxxps?):(?!/))"
)
_SCRIPT = re.compile(r"(?<![\w])(?P<kind>data:[\w.+-]+/[\w.+-]+[;,]|javascript:|vbscript:)", re.IGNORECASE)
# [.] (.) {.} [dot] (dot) " dot " as a dot; the word alone only before an ending that many sites have
_HIDDEN_DOT = re.compile(
    r"\s{0,2}(?:[\[({<]\s{0,2}(?:\.|dot|punkt|punto|point)\s{0,2}[\])}>])\s{0,2}"
    # `the dot com bubble` is no link
    r"|(?<!\ba)(?<!\bthe)\s+(?:dot|d0t|punto|punkt)\s+(?=(?:com|net|org|io|info|biz|xyz|top|ru|co|me|shop|site|club|app)\b"
    r"(?!\s+(?:bubble|boom|compan|era|crash|bust|start|business|world|millionaire)))"
    r"|(?<=\w)\s?[\u3002\uff0e\uff61](?=\w)",
    re.IGNORECASE,
)
_SPACED_DOT = re.compile(r"(?<=[a-z0-9]) ?\. ?(?=(?:com|net|org|info|biz|xyz|ru)\b(?!\s*[A-Z]))")
# what every link has one of; a text without them, which is nearly every text, costs 5 µs instead of 80
_SIGNS = (
    ":/",
    ": /",
    "http:",
    "https:",
    "xp:",
    "xps:",
    "[.",
    "(.",
    "{.",
    "[:",
    "(:",
    "dot",
    "d0t",
    "punto",
    "punkt",
    "point",
)
_DOTS = (" .", "\u3002", "\uff0e", "\uff61")
_INNER_DOT = re.compile(r"\.[^\W\d_]")
_ENDINGS = frozenset(
    [
        "com",
        "net",
        "org",
        "info",
        "biz",
        "io",
        "co",
        "me",
        "tv",
        "gg",
        "ai",
        "app",
        "dev",
        "xyz",
        "top",
        "club",
        "online",
        "site",
        "shop",
        "store",
        "live",
        "fun",
        "icu",
        "cyou",
        "work",
        "click",
        "link",
        "loan",
        "win",
        "vip",
        "bet",
        "casino",
        "porn",
        "sex",
        "xxx",
        "adult",
        "cam",
        "chat",
        "date",
        "buzz",
        "rest",
        "monster",
        "quest",
        "mom",
        "lol",
        "zip",
        "mov",
        "pw",
        "cc",
        "ws",
        "su",
        "tk",
        "ml",
        "ga",
        "cf",
        "gq",
        "cn",
        "ru",
        "ua",
        "by",
        "kz",
        "pl",
        "cz",
        "sk",
        "hu",
        "ro",
        "bg",
        "gr",
        "tr",
        "il",
        "ir",
        "in",
        "pk",
        "bd",
        "lk",
        "th",
        "vn",
        "ph",
        "id",
        "my",
        "sg",
        "hk",
        "tw",
        "jp",
        "kr",
        "au",
        "nz",
        "uk",
        "ie",
        "fr",
        "de",
        "at",
        "ch",
        "it",
        "es",
        "pt",
        "nl",
        "be",
        "lu",
        "dk",
        "se",
        "no",
        "fi",
        "is",
        "ee",
        "lv",
        "lt",
        "eu",
        "us",
        "ca",
        "mx",
        "br",
        "ar",
        "cl",
        "pe",
        "ve",
        "uy",
        "ec",
        "bo",
        "za",
        "ng",
        "ke",
        "gh",
        "eg",
        "ma",
        "tn",
        "ly",
        "to",
        "so",
        "la",
        "im",
        "gl",
        "gd",
        "sh",
        "st",
        "fm",
        "am",
        "edu",
        "gov",
        "mil",
        "int",
        "mobi",
        "pro",
        "name",
        "news",
        "blog",
        "wiki",
        "page",
        "space",
        "tech",
        "cloud",
        "host",
        "press",
        "agency",
        "digital",
        "media",
        "life",
        "world",
        "today",
        "center",
        "company",
        "email",
        "guru",
        "network",
        "photos",
        "systems",
        "tips",
        "zone",
        "london",
        "paris",
        "berlin",
        "nyc",
    ]
)
_HOST = r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[^\W\d_][\w-]{1,62}"
_LINK = re.compile(
    _SCHEME
    + r"(?P<rest>[^\s<>\"'`]{1,2000})|(?<![\w@./-])(?P<bare>"
    + _HOST
    + r")(?P<tail>(?::\d{1,5})?(?:[/?#][^\s<>\"'`]{0,1500})?)"
    r"(?![\w@-])",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?)]}>'\"*_…"
_NUMBERS = re.compile(r"(?:0x[0-9a-f]{1,8}|\d{1,10})(?:\.(?:0x[0-9a-f]{1,8}|\d{1,10})){0,3}", re.IGNORECASE)


class Link(msgspec.Struct, frozen=True):
    host: str
    """Small letters, no dot at the end; Unicode where it was written so. Empty: data: and javascript:."""
    scheme: str = ""
    """As it would be opened: https, ftp; empty where none was written."""
    user: str = ""
    port: int | None = None
    path: str = ""
    is_hidden: bool = False
    """Written so that no filter sees it: hxxp, [.], dot com."""
    address: str = ""
    """The host as an IP address, in the usual form, where it is one."""


def find(text: str) -> Iterator[Link]:
    """The links of the text's first 20,000 characters, as they stand, 200 at most."""
    text = text[:_READ]
    lowered = text.lower()
    count = 0
    if "script:" in lowered or "data:" in lowered:
        for match in _SCRIPT.finditer(text):
            yield Link("", match["kind"].split(":")[0].lower())
            count += 1
            if count >= MOST:
                return
    if not _may_have_links(lowered):
        return
    plain, hidden = _undotted(text)
    for match in _LINK.finditer(plain):
        is_hidden = any(match.start() <= at < match.end() for at in hidden)
        made = _link(match, is_hidden)
        if made is not None:
            yield made
            count += 1
            if count >= MOST:
                return


def _may_have_links(lowered: str) -> bool:
    if any(sign in lowered for sign in _SIGNS) or any(sign in lowered for sign in _DOTS):
        return True
    return _INNER_DOT.search(lowered) is not None


def _undotted(text: str) -> tuple[str, list[int]]:
    """The text with its hidden dots as dots, and where they are in it."""
    pieces: list[str] = []
    hidden: list[int] = []
    at = length = 0
    for match in _HIDDEN_DOT.finditer(text):
        pieces += (text[at : match.start()], ".")
        length += match.start() - at + 1
        hidden.append(length - 1)
        at = match.end()
    text = "".join([*pieces, text[at:]])
    return _SPACED_DOT.sub(".", text) if " ." in text else text, hidden


def _link(match: re.Match[str], is_hidden: bool) -> Link | None:
    if match["bare"] is not None:
        host = match["bare"].lower().rstrip(".")
        if host.rpartition(".")[2] not in _ENDINGS and not host.rpartition(".")[2].startswith("xn--"):
            return None  # config.toml, e.g. and the end.Of a sentence are no links
        port, path = _port(match["tail"].rstrip(_TRAILING))
        return Link(host, port=port, path=path, is_hidden=is_hidden)
    written = "".join(match["scheme"].lower().split())
    scheme = _scheme(written)
    rest = match["rest"].lstrip("/\\").replace("\\", "/").rstrip(_TRAILING.replace("]", ""))
    authority, slash, path = _cut(rest)
    user, at, host = authority.rpartition("@")
    host = unquote(host)
    if host.startswith("["):
        host, bracket, after = host.partition("]")
        host, port = host + bracket, _port(after)[0]
    else:
        name, colon, digits = host.partition(":")
        host, port = name, int(digits[:5]) if colon and digits[:5].isascii() and digits[:5].isdigit() else None
    host = host.lower().strip(".")
    if not host:
        return None
    is_odd = not written.startswith(("http", "ftp", "ws")) or "[" in written or "(" in written
    return Link(host, scheme, user if at else "", port, slash + path, is_hidden or is_odd, _address(host))


def _scheme(written: str) -> str:
    if written.startswith(("f", "w")):
        return written.split(":")[0].replace("fxp", "ftp")
    return "https" if "s:" in written or "s[" in written or "s(" in written else "http"


def _cut(rest: str) -> tuple[str, str, str]:
    for index, sign in enumerate(rest):
        if sign in "/?#":
            return rest[:index], sign, rest[index + 1 :]
    return rest, "", ""


def _port(tail: str) -> tuple[int | None, str]:
    if not tail.startswith(":"):
        return None, tail
    digits = re.match(r":(\d{1,5})", tail)
    return (int(digits[1]), tail[digits.end() :]) if digits else (None, tail)


def _address(host: str) -> str:
    """As a browser reads it: 1.2.3.4, but also 0x1020304, 16909060, 01.02.03.04 and [::1]."""
    try:
        if host.startswith("["):
            return str(ipaddress.IPv6Address(host.strip("[]").split("%")[0]))
        if not _NUMBERS.fullmatch(host):
            return ""
        numbers = [_number(part) for part in host.split(".")]
        *first, last = numbers
        if any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):
            return ""
        value = last + sum(number << (24 - 8 * index) for index, number in enumerate(first))
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        return ""


def _number(part: str) -> int:
    if part.lower().startswith("0x"):
        return int(part, 16)
    return int(part, 8) if len(part) > 1 and part.startswith("0") else int(part)
