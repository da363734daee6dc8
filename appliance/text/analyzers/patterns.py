"""Insult, threat and contempt as sentences are built, in English, Spanish, French and German. RE2, for a text in small
letters without accents; a hyphen is a space there.

A word alone is profanity's; here somebody is spoken to, or wished or promised harm, or called less than human.
"""

# ruff: noqa: E501  # an expression is easier to read on its one line

from typing import NamedTuple


class Pattern(NamedTuple):
    name: str
    """What an event shows of a match."""
    score: float
    expression: str


def _en() -> tuple[Pattern, ...]:
    strong = (
        "idiots?|morons?|imbeciles?|retards?|scum(?:bags?)?|bitch(?:es)?|assholes?|arseholes?|bastards?|cunts?|whores?|"
        "sluts?|pricks?|dickheads?|dumbass(?:es)?|jackass(?:es)?|dipshits?|shitheads?|fuck(?:ers?|heads?|tards?|wits?)|"
        "motherfuckers?|wankers?|twats?|losers?|piece of (?:shit|crap|trash|garbage)|pieces of (?:shit|crap|trash)|"
        "degenerates?|douche(?:bags?)?|sicko|pervert|faggots?|fags?|trannys?|nazis?"
    )
    weak = (
        "stupid|dumb|retarded|pathetic|worthless|disgusting|ugly|braindead|brainless|trash|garbage|vile|filthy|gross|"
        "a (?:joke|clown|disgrace|coward|liar|fool|pig|rat|snake|troll|waste of (?:space|air|oxygen|skin)|nobody|fraud|"
        "hypocrite|monster|psycho|failure|sheep|creep|freak)|clowns|cowards|liars|fools|pigs|sheep|nothing but|useless|"
        "an embarrassment|insane|delusional|crazy|mental|ignorant|full of shit|a fucking"
    )
    filler = (
        r"(?:(?:all|such|just|really|so|a|an|the|fucking|fuckin|absolute|complete|total|little|dirty|stupid|dumb|fat|ugly|"
        r"bunch of|bloody|goddamn|damn|sick|pathetic|literal|actual|lying|racist|ignorant|disgusting|old|white|black|"
        r"being|clearly|obviously|nothing but|one|worthless) ){0,5}"
    )
    you = r"\b(?:you|u|ya|y'all|yall)"
    harm = r"(?:kill|murder|stab|shoot|strangle|hang|beat|hurt|destroy|rape|slaughter|behead|skin|gut|cut|burn|punch|smash)"
    whom = r"(?:you|u|ur|your|him|her|them|those|these|all of|every|that|his|their)\b"
    return (
        Pattern("you-are-insult", 0.75, rf"{you}(?:'re| are|re| r| is)? {filler}(?:{strong})\b"),
        Pattern("you-are-contempt", 0.6, rf"{you}(?:'re| are|re| r) {filler}(?:{weak})\b"),
        Pattern(
            "shut-up",
            0.5,
            r"\bshut (?:the (?:fuck|hell) |your (?:fucking )?(?:mouth|face|trap) ?)?(?:up|the)\b|\bstfu\b",
        ),
        Pattern(
            "fuck-you",
            0.7,
            r"\bf+u+c*k+ (?:you|u|off|yourself|ur|your|them|him|her|this guy|these people)\b|\bfuck all (?:of )?(?:you|them|these)",
        ),
        Pattern(
            "go-away-insult",
            0.5,
            r"\b(?:screw|damn) (?:you|u)\b|\bgo to hell\b|\b(?:kiss|bite) my ass\b|\beat shit\b|\bsuck (?:my|a) \w+",
        ),
        Pattern(
            "your-people",
            0.6,
            r"\b(?:what an?|fucking|these|this|those|such an?|bunch of) (?:\w+ ){0,2}(?:idiots?|morons?|scum(?:bags?)?|retards?|losers?|degenerates?|assholes?|pieces? of shit|cunts?|bitch(?:es)?)\b",
        ),
        Pattern(
            "is-insult",
            0.6,
            r"\b(?:he|she|they|it)(?:'s| is|'re| are) (?:just |such |all |really |literally )?(?:an? )?(?:\w+ )?(?:idiots?|morons?|scum(?:bag)?|retards?|retarded|piece of (?:shit|crap|trash|garbage)|bitch|assholes?|cunt|whore|slut|trash|disgusting|pathetic)\b",
        ),
        Pattern(
            "kill-yourself",
            0.95,
            r"\b(?:kill|hang|shoot|drown|neck|hurt|end) (?:yo)?ur ?sel(?:f|ves)\b|\bkys\b|\bgo (?:and |ahead and )?(?:die|jump off|drink bleach|fuck yourself to death)\b|\bdrink bleach\b|\bjump off a (?:bridge|cliff|roof)\b|\bdie in a fire\b",
        ),
        Pattern(
            "wish-of-harm",
            0.9,
            r"\b(?:hope|wish|pray|praying|hoping|wishing) (?:that )?(?:you|u|he|she|they|your \w+|all of you|these \w+|someone) (?:all |both |just |fucking |will |would |slowly )*(?:die|dies|died|rots?|burns?|suffers?|chokes?|bleeds?|drowns?|gets? (?:cancer|raped|shot|killed|hit|hurt|aids|covid|stabbed|beaten)|kills?|never wake)",
        ),
        Pattern(
            "threat",
            0.95,
            rf"\b(?:i|we)(?:'ll| will|'m going to|'m gonna| am going to|'re going to|'re gonna| are going to| gonna|ma| want to| wanna|'d like to|'d love to) (?:\w+ ){{0,2}}{harm} {whom}",
        ),
        Pattern(
            "threat-to-find",
            0.8,
            r"\b(?:i|we)(?:'ll| will|'m going to|'m gonna| am going to| gonna) (?:come for|hunt|find|get|come after) (?:you|u|ur|your)\b|\bi know where (?:you|u) live\b|\bwatch your back\b",
        ),
        Pattern(
            "you-will-die",
            0.85,
            r"\b(?:you|u)(?:'re| are|r| will|'ll)? (?:(?:going to|gonna|will|about to) (?:fucking )?(?:die|regret|pay for|bleed|suffer)|dead (?:man|meat|to me))\b|\b(?:you|u)(?:'re| are|r) (?:so )?dead[.! ]*$",
        ),
        Pattern(
            "deserves-harm",
            0.9,
            r"\bdeserv(?:e|es|ed|ing) (?:to )?(?:be (?:\w+ )?(?:shot|killed|hanged|hung|raped|beaten|tortured|executed|lynched|burned|burnt|stabbed|murdered)|die|death|rot|suffer|burn|the (?:rope|bullet|chair))\b",
        ),
        Pattern(
            "should-be-harmed",
            0.9,
            r"\b(?:should|must|need to|needs to|ought to|gotta|have to) (?:all |just |really |fucking )*(?:be (?:all )?(?:shot|killed|hanged|hung|raped|beaten|tortured|executed|lynched|burned|burnt|gassed|exterminated|eradicated|wiped out|put down|slaughtered|castrated|sterilized|shipped back)|(?:fucking )?die\b|kill (?:them|him|her)sel)",
        ),
        Pattern(
            "less-than-human",
            0.85,
            r"\b(?:they|you|people|jews|muslims|blacks|whites|gays|immigrants|migrants|refugees|women|men|liberals|conservatives|democrats|republicans|gypsies|mexicans|arabs|indians|asians|africans|trans \w+|foreigners|christians|catholics|atheists|\w+s)(?:'re| are) (?:\w+ ){0,2}(?:animals|vermin|cockroach(?:es)?|parasites|sub ?humans?|not (?:even )?human|rats|savages|apes|monkeys|filth|(?:a|the) (?:disease|cancer|plague|virus)|leeches|maggots|barbarians|subhuman scum)\b",
        ),
        Pattern(
            "send-back",
            0.7,
            r"\bgo back to (?:your|ur|where) (?:\w+ )?(?:country|came|hole|cave|shithole|own)|\bsend (?:them|you|her|him) (?:all )?back\b",
        ),
        Pattern(
            "nobody-wants-you",
            0.85,
            r"\b(?:no ?body|no ?one) (?:likes|loves|wants|cares about|would miss) (?:you|u)\b|\bworld (?:would|will|'d) be (?:a )?better (?:place )?(?:off )?without (?:you|u|them|him|her)\b|\byou should(?:n't have| never have) been (?:born|aborted)\b|\byour (?:mother|mom|mum) should have (?:aborted|swallowed)",
        ),
        Pattern(
            "hate-you",
            0.55,
            r"\b(?:i|we) (?:\w+ )?(?:hate|despise|loathe) (?:you|u|these|those|all|every) ?(?:people|all|muslims|jews|blacks|whites|gays|women|men|\w+s)?\b",
        ),
    )


def _es() -> tuple[Pattern, ...]:
    insult = (
        "idiotas?|imbecil(?:es)?|estupid[oa]s?|gilipollas|basura|escoria|inutil(?:es)?|payas[oa]s?|cerd[oa]s?|"
        "mierdas?|cabron(?:es|a)?|pendej[oa]s?|put[oa]s?|zorras?|asqueros[oa]s?|tont[oa]s?|maric(?:on|ones|a)|subnormal"
        "(?:es)?|retrasad[oa]s?|mongolic[oa]s?|patetic[oa]s?|hij[oa]s? de (?:la gran )?puta|capull[oa]s?|huevon(?:es)?|boluda?o?s?"
    )
    return (
        Pattern(
            "eres-insulto",
            0.75,
            rf"\b(?:eres|sois|sos|son|es) (?:(?:un|una|unos|unas|tan|muy|todos?|puta|puto|pedazo de|solo|mas) ){{0,3}}(?:{insult})\b",
        ),
        Pattern(
            "insulto-a-ti",
            0.7,
            r"\bvete a (?:la mierda|tomar por culo|la verga)\b|\bque te (?:jodan|den|follen)\b|\bhij[oa] de (?:la gran )?puta\b|\bchinga tu madre\b|\bme cago en (?:ti|tu)\b|\bpedazo de (?:mierda|idiota|imbecil|basura)|\bputo (?:idiota|imbecil|asco)",
        ),
        Pattern(
            "callate",
            0.5,
            r"\bcalla(?:te)? (?:la (?:puta )?boca|ya|imbecil|idiota|estupid[oa])\b|\bcierra (?:la|el) (?:puta )?(?:boca|pico|hocico)\b",
        ),
        Pattern(
            "matate",
            0.95,
            r"\b(?:matate|suicidate|muerete|ahorcate|pegate un tiro|tirate (?:de|por) \w+ (?:puente|ventana))\b",
        ),
        Pattern(
            "deseo-de-mal",
            0.9,
            r"\b(?:ojala|espero que|deseo que) (?:que )?(?:te|se|os|todos|tu|\w+ )? ?(?:te |se |os )?(?:mueras?|mueran|muerais|maten|violen|pudras?|pudran|de(?:n)? (?:un )?cancer|atropellen|quemen)\b",
        ),
        Pattern(
            "amenaza",
            0.95,
            r"\b(?:te|os|los|las|le|les) (?:voy|vamos) a (?:matar|pegar|romper|partir|reventar|rajar|violar|destruir|encontrar|quemar|degollar)\b|\bvoy a (?:matar|romper|partir|reventar|violar)(?:te|os|los|las|le)\b|\bte (?:matare|reviento|parto la cara|rompo la cara)\b|\bestas muert[oa]\b",
        ),
        Pattern(
            "merece-morir",
            0.9,
            r"\bmerec(?:e|es|en|eis) (?:la muerte|morir|que (?:te|l[oae]s?) (?:mat|viol|fusil)\w+)\b|\bhay que (?:matar|fusilar|quemar|exterminar|ahorcar|gasear)(?:l[oae]s|)\b|\bdeberia(?:n|s)? (?:morir|matarte|ser (?:fusilad|ejecutad|exterminad)\w+)",
        ),
        Pattern(
            "menos-que-humanos",
            0.85,
            r"\b(?:sois|son|eres) (?:unos |unas |un |una |todos )?(?:animal(?:es)?|ratas?|parasitos?|cucarachas?|alimanas?|bestias?|subhuman[oa]s?|escoria|plaga|un cancer|monos?)\b",
        ),
        Pattern(
            "vuelve-a-tu-pais",
            0.7,
            r"\b(?:vuelve|vete|volved|largate|que se vuelvan) a (?:tu|vuestro|su) (?:puto )?(?:pais|tierra|cueva)\b",
        ),
    )


def _fr() -> tuple[Pattern, ...]:
    insult = (
        "con(?:ne|nes|s)?|idiote?s?|imbeciles?|debiles?|cretine?s?|merdes?|ordures?|connards?|connasses?|salopes?|salauds?|"
        "abrutie?s?|nul(?:le|s|les)?|pute?s?|encules?|batards?|tares?|minables?|pourritures?|dechets?|racailles?|"
        "stupides?|degueulasses?|bouffons?|mongole?s?|attardee?s?|trous? du cul|pd|pedes?|fils de pute|grosse? merde"
    )
    return (
        Pattern(
            "tu-es-insulte",
            0.75,
            rf"\b(?:tu es|t'es|t es|vous etes|c'est|il est|elle est|ils sont|elles sont|espece d(?:e|')|bande d(?:e|')|sale|gros(?:se)?) ?(?:(?:un|une|des|qu'un|qu'une|vraiment|trop|tres|tous|que|gros|grosse|sale|petit|petite|pauvre|vrai) ){{0,4}}(?:{insult})\b",
        ),
        Pattern(
            "insulte-a-toi",
            0.7,
            r"\bva(?:s)? te faire (?:foutre|enculer|mettre|voir)\b|\bnique ta (?:mere|race)\b|\bntm\b|\bfils de pute\b|\bje t'(?:emmerde|encule)\b|\ballez (?:vous faire|tous) (?:foutre|crever|enculer)",
        ),
        Pattern("ta-gueule", 0.5, r"\b(?:ferme )?(?:ta|vos|votre) (?:sale )?gueule\b|\bferme la\b|\btg\b"),
        Pattern(
            "tue-toi",
            0.95,
            r"\b(?:tue toi|suicide toi|pends toi|tire toi une balle|va (?:te )?(?:crever|mourir|pendre|tuer|suicider)|creve (?:donc|sale|connard|ordure|en enfer))\b",
        ),
        Pattern(
            "souhait-de-mal",
            0.9,
            r"\b(?:j'espere|je souhaite|j'aimerais) qu(?:e|')? ?(?:tu|vous|il|ils|elle|elles|on te) (?:\w+ )?(?:creves?|crevent|creviez|crever|mourir|meures?|meurs|mourrez|meurent|mouriez|souffres?|souffrent|brules?|violent?|viole)\b",
        ),
        Pattern(
            "menace",
            0.95,
            r"\b(?:je|on|nous) (?:vais|va|allons) (?:te|vous|le|la|les|tous (?:vous|les)) (?:\w+ )?(?:tuer|frapper|casser|buter|crever|defoncer|egorger|violer|retrouver|bruler|massacrer|saigner|planter)\b|\bje te (?:tue|bute|creve|retrouve|casse la)\b|\btu (?:vas|es) (?:mourir|crever|mort)\b",
        ),
        Pattern(
            "merite-la-mort",
            0.9,
            r"\bmerit(?:e|es|ent|ez|ait|aient) (?:la mort|de (?:mourir|crever)|d'etre (?:tue|pendu|viole|fusille)\w*)\b|\bil faut (?:tous )?(?:les|le) (?:tuer|exterminer|pendre|fusiller|gazer|bruler|eliminer)\b|\ba mort les \w+",
        ),
        Pattern(
            "moins-qu-humains",
            0.85,
            r"\b(?:sont|etes|c'est|ce sont) (?:tous )?(?:des |de la |que des )?(?:animaux|rats|parasites|cafards|vermine|sous hommes|singes|betes|nuisibles|sauvages|cancrelats)\b",
        ),
        Pattern(
            "rentre-chez-toi",
            0.7,
            r"\b(?:rentre|rentrez|retourne|retournez|degage|degagez|qu'ils rentrent) (?:chez (?:toi|vous|eux)|dans (?:ton|votre|leur) pays)\b",
        ),
    )


def _de() -> tuple[Pattern, ...]:
    insult = (
        "idiot(?:en|in)?|dumm|dummkopf|arschloch|arschlocher|abschaum|dreck|drecksau|drecksack|wichser|hurensohn|"
        "hurensohne|schwachkopf|versager|trottel|missgeburt(?:en)?|vollidiot(?:en)?|spast(?:i|en|is)?|schlampe|fotze|"
        "schwein(?:e)?|schweinehund|penner|mull|widerlich|ekelhaft|erbarmlich|wertlos|behindert|bloed|blod|krank|hohl|"
        "dumm wie \\w+|hure|bastard(?:e)?|nichtsnutz|depp(?:en)?|honk|opfer|hackfresse|mistkerl|miststuck|nazi(?:s)?|ratte|affe"
    )
    return (
        Pattern(
            "du-bist-beleidigung",
            0.75,
            rf"\b(?:du bist|ihr seid|sie sind|er ist|sie ist|du|ihr) (?:(?:doch|ja|echt|so|ein|eine|einfach|nur|alle|total|voll|ganz|richtig|der|die|das|grosste|letzte|\w+(?:er|es|en|e)) ){{0,4}}(?:{insult})\b",
        ),
        Pattern(
            "fick-dich",
            0.7,
            r"\bfick (?:dich|euch|deine mutter)\b|\bverpiss (?:dich|euch)\b|\bleck mich\b|\bscheiss auf (?:dich|euch)\b|\bdeine mutter ist\b|\bdrecks?(?:juden?|auslander|turken?|schwuchtel\w*|neger\w*|pack|volk)\b",
        ),
        Pattern(
            "halt-die-fresse",
            0.5,
            r"\bhalt(?:et)? (?:doch |einfach |mal )?(?:die|deine|eure|dein|euer|das) (?:fresse|maul|klappe|schnauze|rand)\b",
        ),
        Pattern(
            "bring-dich-um",
            0.95,
            r"\b(?:bring(?:t)? (?:dich|euch) (?:doch |einfach |bitte )?(?:selbst )?um|tote dich|erschiess dich|hang dich (?:doch )?auf|geh (?:doch )?(?:sterben|krepieren|verrecken)|stirb (?:doch|endlich|einfach)|verreck(?:e|t)?|spring (?:doch )?(?:von|aus) \w+)\b",
        ),
        Pattern(
            "boeser-wunsch",
            0.9,
            r"\b(?:hoffe|hoffentlich|wunsche|wunschte),? (?:dass )?(?:du|ihr|sie|er|dir|euch|ihnen|stirb\w*|verreck\w*) ?(?:\w+ ){0,3}(?:stirbst|sterbt|sterben|stirbt|verreckst|verreckt|verrecken|krebs|den tod|krepier\w*|leidest|brennst|vergewaltigt)\b",
        ),
        Pattern(
            "drohung",
            0.95,
            r"\b(?:ich|wir) (?:werde|werden|will|wollen) (?:dich|euch|dir|ihn|sie|die) (?:\w+ ){0,3}(?:toten|umbringen|schlagen|fertigmachen|kriegen|finden|abstechen|erschiessen|verbrennen|vernichten|brechen|aufschlitzen)\b|\bich (?:bring|mach|stech|schlag|krieg|finde?)e? (?:dich|euch|ihn|sie) (?:\w+ )?(?:um|fertig|ab|tot|kaputt|noch)\b|\bdu bist (?:so gut wie )?tot\b",
        ),
        Pattern(
            "verdient-den-tod",
            0.9,
            r"\bverdien(?:t|st|en) (?:\w+ )?(?:den tod|zu sterben|nichts als den tod)\b|\b(?:gehoren?|gehort|sollte man|soll man|musste man|muss man) (?:\w+ ){0,3}(?:vergast|erschossen|erschiessen|aufgehangt|aufhangen|verbrannt|verbrennen|erschlagen|gesteinigt|an die wand|ins gas|ins lager|abgeknallt|abknallen|vergasen|kastriert|ausgerottet|ausrotten|abgeschoben)\b",
        ),
        Pattern(
            "weniger-als-menschen",
            0.85,
            r"\b(?:sind|seid) (?:alle |alles |doch |nur |ja |einfach ){0,3}(?:\w+e )?(?:tiere|ratten|parasiten|ungeziefer|untermenschen|abschaum|kakerlaken|affen|schmarotzer|keine menschen|gesindel|pack|bestien|viecher)\b",
        ),
        Pattern(
            "geh-zurueck",
            0.7,
            r"\b(?:geh|geht|haut|hau|verschwinde|raus|schickt sie|ab) (?:\w+ )?(?:zuruck|dahin|ab|mit (?:dir|euch|denen|ihnen)) ?(?:in (?:dein|euer|ihr)e?n? ?land|nach \w+|wo (?:du|ihr|sie) her)|\bauslander raus\b",
        ),
    )


PATTERNS: tuple[Pattern, ...] = (*_en(), *_es(), *_fr(), *_de())
