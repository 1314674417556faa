"""What a name may be: one line, in which everybody sees what there is.

Names of patients, doctors and offices, and reasons, come from keyboards, spreadsheets and other
programs, with characters in them that nobody sees. They are stored without these, so that what
looks the same is the same. Case, punctuation and alphabets stay as they were written.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

# What no line of text may hold: control characters, surrogates, line and paragraph separators (the
# categories Cc, Cs, Zl and Zp), noncharacters, and what turns the direction of the text around it,
# and so can make one name look like another:
# https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
_BANNED = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
)
_BANNED_BEYOND = "".join(
    chr(plane * 0x10000 + 0xFFFE) + chr(plane * 0x10000 + 0xFFFF) for plane in range(1, 17)
)
# What takes up room and shows nothing: the category Zs, and the braille pattern without a dot.
_BLANKS = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u2800"
# What nobody sees: Default_Ignorable_Code_Point of the Unicode Character Database but for what is
# banned; the interlinear annotations and the place of an object; the two fillers of musical notes
# and of Khitan. By number, as the tables of Python differ from one version to the next.
_UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc"
)
_UNSEEN_BEYOND = (
    "\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# ... but some of them change how their neighbours look, and stay beside these: joiners inside of a
# word of a script whose letters join (Arabic and its kin, Mongolian, those of India and Indochina;
# their digits do not) and inside of an emoji; selectors after a character that has variants (those
# of China, Japan and Korea, Mongolian, Myanmar, Phags-pa, symbols).
_JOINING = (
    "\u0600-\u061b\u061d-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1810-\u18af"
    "\U00010a80-\U00010aff\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
_PICTURES = "\u2190-\u27bf\u2900-\u2bff\U0001f000-\U0001faff"
_VARYING = (
    "\u1000-\u109f\u1810-\u18af\u2e80-\u2fff\u3001-\u3163\u3165-\u9fff\ua840-\ua87f\uf900-\ufaff"
    "\U00020000-\U0003fffd" + _PICTURES
)

BANNED = re.compile(f"[{_BANNED}{_BANNED_BEYOND}]")
UNSEEN = re.compile(
    f"((?<=[{_JOINING}])(?<!\\d)[\u200c\u200d\u180e](?=[{_JOINING}])(?!\\d)"
    f"|(?:(?<=[{_PICTURES}])|(?<=[{_PICTURES}]\ufe0f))\u200d(?=[{_PICTURES}])"
    f"|(?<=[{_VARYING}])[\ufe00-\ufe0f\u180b-\u180d\u180f\U000e0100-\U000e01ef])"
    f"|[{_UNSEEN}{_UNSEEN_BEYOND}]"
)
BLANKS = re.compile(f"[{_BLANKS}]+")
# A text is judged by its length before it is composed, for that takes the square of the number of
# marks on one letter. No letter in use has more than two, so a text that is longer as it was sent
# is too long when it is composed as well.
MOST_COMPOSED = 3
# Most texts have none of these, and to look for all at once is a third of the work.
SUSPECT = re.compile(f"[{_BANNED}{_UNSEEN}{_BLANKS[1:]}\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class OneLine:
    """One line of text of at least one character and at most ``most``."""

    most: int

    def tidy(self, text: str) -> str:
        """Return a text as it is stored: see ``tidy``.

        Raises:
            PydanticCustomError: it is no line, empty, or too long.
        """
        if len(text) > MOST_COMPOSED * self.most or len(text := tidy(text)) > self.most:
            raise PydanticCustomError(
                "too_long", "must have at most {most} characters", {"most": self.most}
            )
        if not text:
            raise PydanticCustomError("empty", "must not be empty")
        return text

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self.tidy, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"minLength": 1, "maxLength": self.most}


Name = Annotated[str, OneLine(200)]
OfficeNumber = Annotated[str, OneLine(50)]
TypeName = Annotated[str, OneLine(100)]
Phone = Annotated[str, OneLine(50)]
Note = Annotated[str, OneLine(500)]
Reason = Annotated[str, OneLine(500)]


def tidy(text: str) -> str:
    """Return a text without what nobody sees, with single blanks, and composed (NFC).

    Raises:
        PydanticCustomError: it has characters that have no place in a line of text.
    """
    if SUSPECT.search(text) or "  " in text:
        if BANNED.search(text):
            raise PydanticCustomError(
                "banned_character", "must be one line of text, without control characters"
            )
        text = BLANKS.sub(" ", UNSEEN.sub(r"\1", text))
    return unicodedata.normalize("NFC", text.strip(" "))


# Written in more than one way by the same person: apostrophes (of typewriters, of print, of
# Ukrainian, Hawaiian, Armenian and Hebrew), hyphens and dashes, the Russian ё, and the i of
# Turkish, whose dot others lose or add with capitals.
_ALIKE = {
    "'": "`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u055a\u05f3"
    "\u2018\u2019\u201a\u201b\u2032\u2035\ua78c",
    "-": "\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013"
    "\u2014\u2015\u2212\u2e17\u2e3a\u2e3b\ufe58",
    "е": "ё",
    "i": "ıİ",
}
_FOLDED = {other: one for one, others in _ALIKE.items() for other in others}
# Of what nobody sees these stay in a tidy name.
FOLDED = re.compile(
    f"[{''.join(_FOLDED)}\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# PostgreSQL's indexes take 2704 bytes, and a character at most 4 of them. Names of 200 characters
# have longer keys only where one stands for a whole word, as in Arabic.
LONGEST_KEY = 500


# What casefold makes of İ, and more dots than that.
DOTTED = re.compile("i\u0307+")


def patient_key(name: str) -> str:
    """Return the key by which a tidy name is searched for: one for all ways of writing it.

    These differ in case, in any alphabet; in the form of letters (NFKC: wide ones, ligatures); in
    the kind of apostrophes and hyphens; in ё or е; in the dot of an i. Other accents do count.
    """
    return _folded(name)[:LONGEST_KEY]


# Cyrillic and Greek letters that look like Latin ones in capitals: on the door of 221В nobody sees
# which one it is, and two programs have it in two ways.
_LOOKS = str.maketrans("авекмнорстухіјѕԁԛԝαβεζηικμνορτυχ", "abekmhopctyxijsdqwabezhikmnoptyx")
NUMBER_SIGN = "\N{NUMERO SIGN}"


@functools.lru_cache(maxsize=8192)
def name_key(name: str) -> str:
    """Return the key by which an office or a doctor is known: one for all ways of writing the name.

    Besides what ``patient_key`` leaves out it is blanks and punctuation (the Unicode categories Z
    and P), of which № is one, as # is: both say "number". ``221B`` is ``221 b``, ``№ 221-B`` and
    ``221В`` with a Cyrillic В; ``Dr. Watson`` is ``dr watson``. Between two digits they part
    numbers, and one mark stays: ``1.2`` is ``1-2`` and not ``12``. A name of nothing else is its
    own key.
    """
    plain = _folded(name.replace(NUMBER_SIGN, " "))
    key = _bare(plain)
    # Without a blank, or in Latin, a letter and an accent may be one that is composed.
    while (bare := _bare(_folded(key))) != key:
        key = bare
    return (key or plain.strip() or name)[:LONGEST_KEY]


def _bare(text: str) -> str:
    return "".join(_without_marks(text)).translate(_LOOKS)


def _without_marks(text: str) -> Iterator[str]:
    before, parted = "", False
    for character in text:
        if unicodedata.category(character)[0] in "PZ":
            parted = True
            continue
        if parted and before.isdigit() and character.isdigit():
            yield "-"
        before, parted = character, False
        yield character


def _folded(name: str) -> str:
    key = _fold(name.casefold())
    # Each step may bring forth what another one changes, though seldom.
    while (folded := _fold(key)) != key:
        key = folded
    return key


def _fold(text: str) -> str:
    text = FOLDED.sub(_alike, DOTTED.sub("i", text))
    return unicodedata.normalize("NFKC", text).casefold()


def _alike(found: re.Match[str]) -> str:
    return _FOLDED.get(found[0], "")


def words_of(key: str) -> list[str]:
    """Return the words of a ``patient_key``, each once, in order."""
    return sorted({word for word in key.replace("-", " ").split(" ") if word})
