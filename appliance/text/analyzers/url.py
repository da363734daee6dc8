"""Links that are not what they seem, or that hide: by their form alone. Nothing is looked up or opened.

Which hosts an operator wants or not are entries of the blocklist (`customhouse blocklist add evil.example`): one list,
one way to keep it, and it stands behind every surface. What is shipped here is form and shorteners.
"""

import unicodedata
from collections.abc import Callable, Sequence

from appliance.text import links
from appliance.text.analysis import Result
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.links import Link
from appliance.text.reading import Reading

SCORES = {
    "executable": 0.9,
    "credentials": 0.85,
    "homograph": 0.85,
    "deceptive_subdomain": 0.8,
    "encoded_address": 0.85,
    "hidden": 0.7,
    "address": 0.6,
    "private_address": 0.3,
    "punycode": 0.55,
    "shortener": 0.45,
    "download": 0.55,
    "port": 0.4,
    "ending": 0.35,
    "flood": 0.65,
    "many": 0.35,
    "link": 0.05,
}
"""What is odd of a link → the score of a text that has one."""
_FLOOD, _MANY = 10, 4
_EACH_MORE = 0.03
_MOST_MORE = 0.09

_SHORTENERS = frozenset(
    [
        "bit.ly",
        "tinyurl.com",
        "t.co",
        "goo.gl",
        "ow.ly",
        "is.gd",
        "v.gd",
        "buff.ly",
        "adf.ly",
        "shorte.st",
        "bc.vc",
        "cutt.ly",
        "rebrand.ly",
        "tiny.cc",
        "rb.gy",
        "shorturl.at",
        "t.ly",
        "s.id",
        "soo.gd",
        "clck.ru",
        "bl.ink",
        "lnkd.in",
        "trib.al",
        "dlvr.it",
        "qr.ae",
        "x.co",
        "po.st",
        "mcaf.ee",
        "tr.im",
        "ur1.ca",
        "u.to",
        "short.io",
        "shorturl.asia",
        "tny.im",
        "wp.me",
        "gg.gg",
        "vk.cc",
        "ouo.io",
        "za.gl",
        "exe.io",
        "fc.lc",
        "gplinks.co",
        "shrinkme.io",
        "linkvertise.com",
        "link-to.net",
        "bitly.com",
        "tinycc.com",
        "urlz.fr",
        "lc.cx",
        "kurz.de",
        "kurzelinks.de",
        "acortar.link",
        "acortaurl.com",
        "surl.li",
        "da.gd",
        "n9.cl",
        "shorturl.gg",
        "tiny.one",
        "rotf.lol",
        "urlshort.app",
        "1url.com",
        "2no.co",
        "grabify.link",
        "iplogger.org",
        "iplogger.com",
    ]
)
_CHEAP_ENDINGS = frozenset(
    [
        "tk",
        "ml",
        "ga",
        "cf",
        "gq",
        "icu",
        "cyou",
        "top",
        "click",
        "loan",
        "win",
        "bet",
        "rest",
        "monster",
        "quest",
        "buzz",
        "zip",
        "mov",
        "xyz",
    ]
)
_DOWNLOADS = (".exe", ".scr", ".apk", ".bat", ".cmd", ".msi", ".vbs", ".ps1", ".jar", ".hta", ".lnk")
# names that a host is made to look like: only where they stand in a host that is not theirs
_IMITATED = frozenset(
    [
        "paypal",
        "apple",
        "icloud",
        "microsoft",
        "office365",
        "outlook",
        "google",
        "gmail",
        "youtube",
        "facebook",
        "instagram",
        "whatsapp",
        "amazon",
        "netflix",
        "steam",
        "steamcommunity",
        "discord",
        "roblox",
        "binance",
        "coinbase",
        "metamask",
        "blockchain",
        "ebay",
        "dhl",
        "fedex",
        "ups",
        "usps",
        "chase",
        "wellsfargo",
        "santander",
        "bbva",
        "sparkasse",
        "postbank",
        "commerzbank",
        "laposte",
        "ameli",
        "impots",
    ]
)
_TWO_PART = frozenset(["co", "com", "org", "net", "ac", "gov", "edu"])
_PORTS = (None, 80, 443, 8080, 8443)
_LIKE_LATIN = str.maketrans("аеорсухіјѕԁһӏѵαεοντυρικ", "aeopcyxijsdhlvaeovtupik")


def look(reading: Reading) -> Result:
    found = list(links.find(reading.text))
    if not found:
        return NOTHING
    names = {name for link in found for name in _oddities(link)}
    names |= _together(found)
    scores = sorted((SCORES[name] for name in names), reverse=True)
    more = min(_EACH_MORE * sum(score >= SCORES["shortener"] for score in scores[1:]), _MOST_MORE)
    shown = sorted(names - {"link"}, key=lambda name: -SCORES[name])
    return Result(round(min(scores[0] + more, 1.0), 3), tuple(shown))


def _together(found: Sequence[Link]) -> set[str]:
    if len(found) >= _FLOOD:
        return {"link", "flood"}
    return {"link", "many"} if len(found) >= _MANY else {"link"}


def _oddities(link: Link) -> list[str]:
    return [name for name, is_so in _CHECKS.items() if is_so(link)]


def _is_encoded(link: Link) -> bool:
    return bool(link.address) and not link.host.startswith("[") and link.host != link.address


def _is_private(link: Link) -> bool:
    return (
        link.address.startswith(("10.", "127.", "192.168.", "169.254.", "::1", "fe80:", "fd"))
        or link.host == "localhost"
    )


def _is_homograph(link: Link) -> bool:
    """A host that mixes alphabets, or that reads as a Latin name and is none."""
    host = _spelled(link.host)
    if host.isascii():
        return False
    return any(_mixes(label) or _imitates(label) for label in host.split("."))


def _mixes(label: str) -> bool:
    kinds = {unicodedata.name(c, "").split(" ")[0] for c in label if c.isalpha()} & {
        "LATIN",
        "CYRILLIC",
        "GREEK",
        "ARMENIAN",
    }
    return len(kinds) > 1


def _imitates(label: str) -> bool:
    plain = unicodedata.normalize("NFD", label.translate(_LIKE_LATIN))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return plain != label and plain in _IMITATED


def _spelled(host: str) -> str:
    """The host in letters, where it is written in punycode."""
    if "xn--" not in host:
        return host
    labels = host.split(".")
    for index, label in enumerate(labels):
        if label.startswith("xn--"):
            try:
                labels[index] = label[4:].encode("ascii").decode("punycode")
            except (UnicodeError, ValueError):
                continue
    return ".".join(labels)


def _is_deceptive(link: Link) -> bool:
    """paypal.com.evil.example, paypal-login.example: somebody's name in a host that is not theirs."""
    if link.address or not link.host:
        return False
    labels = link.host.split(".")
    own = 3 if len(labels) > 2 and labels[-2] in _TWO_PART and len(labels[-1]) == 2 else 2
    owner, above = labels[-own] if len(labels) >= own else labels[0], labels[:-own]
    if owner in _IMITATED:
        return False
    pieces = {piece for label in above for piece in label.split("-")}
    named = pieces & _IMITATED
    has_ending = any(label in ("com", "net", "org") for label in above)
    joined = set(owner.split("-")) & _IMITATED
    lures = {"login", "secure", "verify", "account", "support", "update", "signin", "gift", "free", "wallet"}
    return (
        bool(named and has_ending) or bool(joined and set(owner.split("-")) & lures) or bool(named and pieces & lures)
    )


_CHECKS: dict[str, Callable[[Link], bool]] = {
    "executable": lambda link: not link.host and link.scheme in ("data", "javascript", "vbscript"),
    "credentials": lambda link: bool(link.user),
    "homograph": _is_homograph,
    "deceptive_subdomain": _is_deceptive,
    "encoded_address": _is_encoded,
    "hidden": lambda link: link.is_hidden,
    "address": lambda link: bool(link.address) and not _is_private(link),
    "private_address": _is_private,
    "punycode": lambda link: "xn--" in link.host,
    "shortener": lambda link: link.host.removeprefix("www.") in _SHORTENERS,
    "download": lambda link: link.path.split("?")[0].lower().endswith(_DOWNLOADS),
    "port": lambda link: link.port not in _PORTS,
    "ending": lambda link: link.host.rpartition(".")[2] in _CHEAP_ENDINGS,
}
