"""Numbers below ten thousand as they are spoken in English, French, Spanish and Italian; from there on digit by digit."""

from __future__ import annotations

_UNITS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis "
    "diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis "
    "veintisiete veintiocho veintinueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
    "diciassette diciotto diciannove",
}
UNITS = {language: words.split() for language, words in _UNITS.items()}
_TENS = {
    "en": "zero ten twenty thirty forty fifty sixty seventy eighty ninety",
    "fr": "zéro dix vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt",
    "es": "cero diez veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "it": "zero dieci venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
}
TENS = {language: words.split() for language, words in _TENS.items()}
_HUNDREDS_ES = (
    "cero ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)
HUNDREDS_ES = _HUNDREDS_ES.split()
LANGUAGES = tuple(UNITS)


def spoken_number(digits: str, language: str = "en") -> str:
    """A number as it is spoken; from ten thousand on, or with a leading zero, digit by digit."""
    number, units = int(digits), UNITS[language]
    if number >= 10_000 or (digits.startswith("0") and len(digits) > 1):
        return " ".join(units[int(digit)] for digit in digits)
    if not number:
        return units[0]
    return {"en": _english, "fr": _french, "es": _spanish, "it": _italian}[language](number)


def _english(number: int) -> str:
    parts = []
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            parts += [UNITS["en"][number // size], name]
            number %= size
    if number >= 20:
        parts.append(TENS["en"][number // 10])
        number %= 10
        if number:
            parts.append(UNITS["en"][number])
    elif number:
        parts.append(UNITS["en"][number])
    return " ".join(parts)


def _french(number: int) -> str:
    """With hyphens as before 1990: between tens and units alone, and `et` before one and eleven."""
    if number >= 1000:
        return _with_rest("mille" if number < 2000 else f"{_french(number // 1000)} mille", number % 1000, _french)
    if number >= 100:
        rest = number % 100
        name = "cent" if number < 200 else f"{UNITS['fr'][number // 100]} {'cent' if rest else 'cents'}"
        return _with_rest(name, rest, _french)
    if number < 20:
        return UNITS["fr"][number]
    ten = number // 10
    rest = number % 20 if ten in (7, 9) else number % 10
    if number == 80:
        return "quatre-vingts"
    if not rest:
        return TENS["fr"][ten]
    if rest in (1, 11) and ten < 8:
        return f"{TENS['fr'][ten]} et {UNITS['fr'][rest]}"
    return f"{TENS['fr'][ten]}-{UNITS['fr'][rest]}"


def _spanish(number: int) -> str:
    if number >= 1000:
        return _with_rest("mil" if number < 2000 else f"{_spanish(number // 1000)} mil", number % 1000, _spanish)
    if number >= 100:
        return "cien" if number == 100 else _with_rest(HUNDREDS_ES[number // 100], number % 100, _spanish)
    if number < 30:
        return UNITS["es"][number]
    rest = number % 10
    return f"{TENS['es'][number // 10]} y {UNITS['es'][rest]}" if rest else TENS["es"][number // 10]


def _italian(number: int) -> str:
    """One word."""
    if number >= 1000:
        name = "mille" if number < 2000 else f"{_italian(number // 1000)}mila"
        return name + (_italian(number % 1000) if number % 1000 else "")
    if number >= 100:
        name = "cento" if number < 200 else f"{UNITS['it'][number // 100]}cento"
        return name + (_italian(number % 100) if number % 100 else "")
    if number < 20:
        return UNITS["it"][number]
    ten, rest = TENS["it"][number // 10], number % 10
    if not rest:
        return ten
    return (ten[:-1] if rest in (1, 8) else ten) + ("tré" if rest == 3 else UNITS["it"][rest])


def _with_rest(name: str, rest: int, of: object) -> str:
    return f"{name} {of(rest)}" if rest and callable(of) else name
