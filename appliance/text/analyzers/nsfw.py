"""Sexual content in words: the packs' entries, and offers or requests in the languages that have packs."""

import re

from appliance.text.analysis import Result
from appliance.text.analyzers import weighing
from appliance.text.reading import Reading

# An offer or a request has a form that its words alone, each of them innocent, do not.
_PATTERNS = {
    "nude_request": (
        0.7,
        re.compile(
            r"\b(?:send|show|post|share|got|trade|want|sell(?:ing)?|buy)\s+"
            r"(?:me\s+|us\s+|your\s+|ur\s+|some\s+|any\s+|more\s+|my\s+){0,2}"
            r"(?:nudes?|noods|naked pics|naughty pics|dirty pics|sexy pics|lewds?)\b"
            r"|\b(?:envoie|montre|env[ií]a(?:me)?|manda(?:me)?|p[aá]same|schick|zeig)(?:[ -](?:moi|mir|uns|me))?\s+"
            r"(?:(?:tes|des|tus|una?s?|deine?|mal|ein paar)\s+){0,2}"
            r"(?:nudes?|(?:foto|photo|imagen)e?s?\s+(?:nues?|desnud[oa]s?)|nacktbilder|nacktfotos)\b"
        ),
    ),
    "sexual_offer": (
        0.7,
        re.compile(
            r"\b(?:looking for|wanna|want to|down for|up for|quick)\s+(?:a\s+|some\s+)?"
            r"(?:hook ?up|no strings sex|casual sex|sexting|to sext)\b|\bsext (?:me|with)\b"
            r"|\b(?:plan cul|sexo casual|sexo sin compromiso|sextreffen|sexkontakte)\b"
        ),
    ),
    "adult_promotion": (
        0.6,
        re.compile(
            r"\b(?:my|check|join|subscribe(?: to)?|visit|new)\s+(?:out\s+)?(?:my\s+)?"
            r"(?:only ?fans|fansly|premium snap|onlyf4ns)\b"
            r"|\b(?:adult|xxx|18\+)\s+(?:content|videos?|cam|chat|site|dating)\b"
            r"|\b(?:hot|sexy|horny)\s+(?:singles?|girls|milfs|moms|ladies)\s+"
            r"(?:near (?:you|u|me)|in your|waiting for you|want you)\b"
        ),
    ),
}
_HINT = re.compile(
    r"nude|noods|naked|pics|lewd|hook|sex|fans|snap|onlyf4ns|adult|xxx|18\+|hot |horny|nackt|desnud|nue|plan cul"
)


def look(reading: Reading) -> Result:
    found = weighing.weigh(reading.of("nsfw"))
    plain = reading.plain
    if _HINT.search(plain) is None:
        return found
    names = {name: score for name, (score, pattern) in _PATTERNS.items() if pattern.search(plain)}
    if not names:
        return found
    return Result(max(found.score, *names.values()), (*found.matched, *names))
