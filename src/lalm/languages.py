"""Languages: which codes there are, one way to write them, which of them the encoders of this package know; what of a text is words.

A language is the base code of a BCP 47 tag: `fr-FR`, `fr_FR` and `fr` are all `fr`, `zh-CN` and `zh-TW` both `zh`. Known are all
of ISO 639-1 and the longer codes of Whisper, which holds all languages of MASSIVE. Old codes become new ones (`iw` is `he`).
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

DEFAULT = "en"
SEVERAL = "mul"  # ISO 639-2: multiple languages

# ISO 639-1, then the codes of three letters that Whisper knows
_NAMES = """
aa=Afar ab=Abkhazian ae=Avestan af=Afrikaans ak=Akan am=Amharic an=Aragonese ar=Arabic as=Assamese av=Avaric
ay=Aymara az=Azerbaijani ba=Bashkir be=Belarusian bg=Bulgarian bi=Bislama bm=Bambara bn=Bengali bo=Tibetan br=Breton
bs=Bosnian ca=Catalan ce=Chechen ch=Chamorro co=Corsican cr=Cree cs=Czech cu=Slavonic cv=Chuvash cy=Welsh
da=Danish de=German dv=Divehi dz=Dzongkha ee=Ewe el=Greek en=English eo=Esperanto es=Spanish et=Estonian eu=Basque
fa=Persian ff=Fulah fi=Finnish fj=Fijian fo=Faroese fr=French fy=Frisian ga=Irish gd=Gaelic gl=Galician gn=Guarani
gu=Gujarati gv=Manx ha=Hausa he=Hebrew hi=Hindi ho=Motu hr=Croatian ht=Haitian hu=Hungarian hy=Armenian hz=Herero
ia=Interlingua id=Indonesian ie=Interlingue ig=Igbo ii=Nuosu ik=Inupiaq io=Ido is=Icelandic it=Italian iu=Inuktitut
ja=Japanese jv=Javanese ka=Georgian kg=Kongo ki=Kikuyu kj=Kuanyama kk=Kazakh kl=Kalaallisut km=Khmer kn=Kannada
ko=Korean kr=Kanuri ks=Kashmiri ku=Kurdish kv=Komi kw=Cornish ky=Kyrgyz la=Latin lb=Luxembourgish lg=Ganda
li=Limburgish ln=Lingala lo=Lao lt=Lithuanian lu=Luba lv=Latvian mg=Malagasy mh=Marshallese mi=Maori mk=Macedonian
ml=Malayalam mn=Mongolian mr=Marathi ms=Malay mt=Maltese my=Burmese na=Nauru nb=Bokmal nd=Northern-Ndebele ne=Nepali
ng=Ndonga nl=Dutch nn=Nynorsk no=Norwegian nr=Southern-Ndebele nv=Navajo ny=Chichewa oc=Occitan oj=Ojibwa om=Oromo
or=Odia os=Ossetian pa=Punjabi pi=Pali pl=Polish ps=Pashto pt=Portuguese qu=Quechua rm=Romansh rn=Rundi ro=Romanian
ru=Russian rw=Kinyarwanda sa=Sanskrit sc=Sardinian sd=Sindhi se=Northern-Sami sg=Sango si=Sinhala sk=Slovak
sl=Slovenian sm=Samoan sn=Shona so=Somali sq=Albanian sr=Serbian ss=Swati st=Sotho su=Sundanese sv=Swedish
sw=Swahili ta=Tamil te=Telugu tg=Tajik th=Thai ti=Tigrinya tk=Turkmen tl=Tagalog tn=Tswana to=Tongan tr=Turkish
ts=Tsonga tt=Tatar tw=Twi ty=Tahitian ug=Uyghur uk=Ukrainian ur=Urdu uz=Uzbek ve=Venda vi=Vietnamese vo=Volapuk
wa=Walloon wo=Wolof xh=Xhosa yi=Yiddish yo=Yoruba za=Zhuang zh=Chinese zu=Zulu haw=Hawaiian yue=Cantonese
"""
NAMES: dict[str, str] = dict(pair.split("=") for pair in _NAMES.split())

# what the tokens of Whisper's multilingual models up to large-v2 name (Radford et al. 2022); yue came with large-v3
_WHISPER = """
en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy
sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo
uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jv su
"""
WHISPER = tuple(_WHISPER.split())

# languages whose writing sets no blanks between words: their unit of error is the character. Whisper's paper (Radford et al. 2022,
# appendix C) names zh, ja, th, lo and my; the others are written alike
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo", "dz"})

_DOTTED = frozenset({"tr", "az"})  # languages in which I is the capital of a letter without a dot

_OLD = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "cmn": "zh", "fil": "tl"}
_IN_WHISPER = {"nb": "no", "jv": "jw"}  # what Whisper calls it
_MISTAKEN = {  # countries and codes of ISO 639-2, for the hint alone
    "jp": "ja", "cn": "zh", "gr": "el", "ua": "uk", "dk": "da", "cz": "cs", "gb": "en", "us": "en", "vn": "vi", "ir": "fa",
    "il": "he", "at": "de", "rs": "sr", "eng": "en", "fra": "fr", "fre": "fr",
    "deu": "de", "ger": "de", "spa": "es", "ita": "it", "por": "pt", "jpn": "ja", "zho": "zh", "chi": "zh", "kor": "ko",
    "rus": "ru", "nld": "nl", "dut": "nl", "pol": "pl", "tur": "tr", "vie": "vi", "ara": "ar", "hin": "hi", "tha": "th",
}  # fmt: skip


def base(tag: str) -> str:
    """The language of a tag: `fr` of `fr-FR`. Raises ValueError (what is wrong, the nearest known one) for one that is none."""
    code = re.split(r"[-_]", tag.strip())[0].lower()
    code = _OLD.get(code, code)
    if code not in NAMES:
        raise ValueError(unknown(tag))
    return code


def unknown(tag: str, known: Iterable[str] = NAMES) -> str:
    """What is wrong with a tag that names none of the `known` languages, without a full stop at the end."""
    allowed = list(known)
    wanted = re.split(r"[-_]", tag.strip())[0].lower()
    by_name = {NAMES[code].lower(): code for code in allowed}
    close = difflib.get_close_matches(wanted, by_name, n=1, cutoff=0.8) if len(wanted) > 3 else []
    near = by_name[close[0]] if close else _MISTAKEN.get(wanted)
    if near not in allowed and len(wanted) in (2, 3):
        near = next((code for code in (*WHISPER, *sorted(NAMES)) if code in allowed and code[0] == wanted[0]), None)
    near = near if near in allowed else None
    hint = f". Did you mean '{near}' ({name(near)})?" if near else "."
    return f"{tag!r:.60} is no known language{hint} A language is a code of ISO 639-1 such as en, fr or zh, or a tag such as fr-FR"


def name(code: str) -> str:
    """A language as a person reads it: `French`; the code itself where it is not known."""
    return NAMES.get(code, code).replace("-", " ")


def heard_by_whisper(code: str) -> bool:
    """Whether Whisper's multilingual models were trained to hear a language."""
    return code == "nb" or code in WHISPER


def whisper_code(tag: str) -> str:
    """What Whisper's tokens call a language. Raises ValueError for one that its multilingual models were not trained on."""
    code = base(tag)
    if not heard_by_whisper(code):
        raise ValueError(f"{tag!r:.60} ({name(code)}) is none of the languages that Whisper was trained on")
    return _IN_WHISPER.get(code, code)


def lower_case(text: str, language: str) -> str:
    """The text in lower case, as the language has it (Turkish and Azeri: I is the capital of a letter without a dot)."""
    if language in _DOTTED:
        text = text.replace("I", "\u0131")
    return text.replace("\u0130", "i").lower()  # of it alone `lower` would make two characters


def only_words(text: str, kept: str = "'") -> str:
    """Letters, marks, digits and the characters in `kept`; whatever stands between them is a single blank.

    Marks are the vowels of Devanagari, Thai and their like, which `\\w` leaves out. Joiners, soft hyphens and their like, which are
    not seen, go without a blank.
    """
    plain = "".join(one if one in kept or _is_said(one) else _instead(one) for one in text)
    return " ".join(plain.split())


@functools.cache
def _is_said(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def _instead(character: str) -> str:
    return "" if unicodedata.category(character) == "Cf" else " "


def _tag(value: str) -> str:
    base(value)
    return value


Language = Annotated[str, AfterValidator(base)]  # of an option: kept as its base code
WhisperLanguage = Annotated[str, AfterValidator(whisper_code)]  # of an option: what Whisper's decoder is told to expect
Locale = Annotated[str, AfterValidator(_tag)]  # of an option: language and country as files are called, kept as it is
