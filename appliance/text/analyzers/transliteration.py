"""Transliteration: a language in another script's letters, words of several scripts, terms by their sound."""

import re

from appliance.text.analysis import Result
from appliance.text.analyzers import weighing
from appliance.text.analyzers.weighing import NOTHING
from appliance.text.expressions import Screen
from appliance.text.reading import Reading

# Small words that a sentence can hardly do without, as they are typed in Latin letters; none is a word of English,
# Spanish, French or German.
_WORDS = {
    "romanised Russian": "chto eto kak privet spasibo nyet menya tebya ochen zachem pochemu kogda tolko mozhet yesli "
    "esli khorosho horosho zdravstvuyte nichego segodnya kto gde moy tvoy yego tebe mne seychas bolshe ploho "
    "vsyo vse-taki konechno pozhaluysta lyublyu znayu hochu khochu budet bylo blyat blyad suka nahuy nahui pizdets",
    "romanised Ukrainian": "shcho yak dyakuyu duzhe bud-laska tilky yaksho maye meni tobi sohodni",
    "romanised Arabic": "habibi 7abibi inshallah wallah walla yalla shukran ya3ni ma3 3ala 3an 3ndi 3andi mesh mish "
    "keda kida ana enta enti e7na a7na hada sho shou leh lesh keefak kifak 7ata 7elw 7aga ba3d ma3lesh mafi",
    "romanised Hindi": "kya hai nahi nahin mera meri tera teri tum aap kaise kaisa bhai yaar acha accha bahut bohot "
    "karo raha rahi hoon mujhe tujhe usko unko kyun kyunki lekin aur hain bhenchod madarchod chutiya gandu",
    "romanised Greek": "einai kai den gia tha mou sou kalimera kalispera efxaristo euxaristo parakalo emena esena "
    "afto auto pou poios giati otan mono kala malaka malakas gamoto",
    "romanised Japanese": "watashi anata desu masu arigatou kudasai nani doko dare boku ore kimi baka kuso shine "
    "janai desuka ohayou konnichiwa",
}
_LISTS = {word: name for name, words in _WORDS.items() for word in words.split()}
_WORD = re.compile(r"[a-z0-9'-]+")
_FEWEST = 3
_SHARE = 0.2
_OTHER = r"[\p{Cyrillic}\p{Greek}\p{Armenian}\p{Hebrew}\p{Arabic}]"
_SCREEN = Screen({"scripts mixed in words": rf"[a-z]{_OTHER}{{1,30}}[a-z]|{_OTHER}[a-z]{{1,30}}{_OTHER}"})
_MIXED = 0.5


def look(reading: Reading) -> Result:
    text = reading.plain
    found: dict[str, float] = {}
    words = text.split(" ")
    # most texts have none of these words: sets say so in a microsecond or two
    known = [] if _LISTS.keys().isdisjoint(words) else [_LISTS[word] for word in _WORD.findall(text) if word in _LISTS]
    if len(known) >= _FEWEST and len(known) / len(words) >= _SHARE:
        # the more of the words are known, the surer: a fifth of them is already more than another language has
        found[max(set(known), key=known.count)] = min(0.4 + len(known) / len(words), 0.9)
    if not text.isascii():
        found |= dict.fromkeys(_SCREEN.of(text), _MIXED)
    sounded = [hit for hit in reading.hits if hit.disguise == "transliteration"]
    if sounded:
        found |= dict.fromkeys((hit.entry.term for hit in sounded), weighing.weigh(sounded).score)
    if not found:
        return NOTHING
    return Result(round(max(found.values()), 3), tuple(found))
