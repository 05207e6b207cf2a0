"""From caption to words to ids, and back to readable text.

`tokenize` gives the tokens that COCO's evaluation gives (the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1,
lower-cased, less 13 punctuation tokens), so that training, decoding and scoring mean the same words. No Java needed.
Knowingly different, and met in no caption of Flickr8k or of a COCO sample:
- Each caption stands alone, and a line break in it is a space. The evaluation reads all captions as one text, where
  a closing "the letter c." gives "c" or "c." depending on how the next caption starts; here it is "c.".
- Parts of tags, URLs and mail addresses are bounded (to 64 or 256 characters), and URLs glued to URLs cut differently.
- A soft hyphen always vanishes. A lone surrogate separates words.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

PAD, START, END, UNK = "<pad>", "<start>", "<end>", "<unk>"
PAD_ID, START_ID, END_ID, UNK_ID = range(4)

_SPECIALS = (PAD, START, END, UNK)

# Round brackets are not among them: lower-casing turns them into words that the evaluation does not drop.
_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_SEPARATOR = re.compile("[\x0a-\x0d\x85\xa0\u2028\u2029\ud800-\udfff]")
_SOFT_HYPHEN = "\xad"

# Characters. A combining mark continues a word as letters do, but a number does not absorb it.
_NOT_LETTERS = (
    "\u00b2\u00b3\u00b9\u00bc-\u00be\u09f4-\u09f9\u0b72-\u0b77\u0bf0-\u0bf2\u0d58-\u0d5e\u0d70-\u0d78\u0f2a-\u0f33"
    "\u1369-\u137c\u2070\u2074-\u2079\u2080-\u2089\u2150-\u2182\u2185-\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"
    "\u3021-\u3029\u3038-\u303a\u3192-\u3195\u3220-\u3229\u3248-\u324f\u3251-\u325f\u3280-\u3289\u32b1-\u32bf"
    "\U00010000-\U0010ffff"
    # letters that came to Unicode after the lexer
    "\u037f\u0528-\u052f\u0560\u0588\u05ef\u0860-\u086a\u0870-\u0887\u0889-\u088e\u08a1\u08ad-\u08c9\u0978\u0980"
    "\u09fc\u0af9\u0c34\u0c5a\u0c5d\u0c80\u0cdd\u0d04\u0d54-\u0d56\u0d5f\u0de6-\u0def\u0e86\u0e89\u0e8c\u0e8e-\u0e93"
    "\u0e98\u0ea0\u0ea8-\u0ea9\u0eac\u13f5\u13f8-\u13fd\u16f1-\u16f8\u170d\u171f\u1878\u191d-\u191e\u19b0-\u19c0"
    "\u19c8-\u19c9\u1b4c\u1c80-\u1c88\u1c90-\u1cba\u1cbd-\u1cbf\u1cf2-\u1cf3\u1cfa\u2c2f\u2c5f\u312e-\u312f"
    "\u31bb-\u31bf\u4db6-\u4dbf\u9fcd-\u9fff\ua698-\ua69d\ua78f\ua794-\ua79f\ua7ab-\ua7ca\ua7d0-\ua7d1\ua7d3"
    "\ua7d5-\ua7d9\ua7f2-\ua7f7\ua8fd-\ua8fe\ua9e0-\ua9e4\ua9e6-\ua9fe\uaa7e-\uaa7f\uab30-\uab5a\uab5c-\uab69"
    "\uab70-\uabbf\u3007"
)
_LETTER = rf"[^\W\d_{_NOT_LETTERS}]"
_DIGIT = r"[^\D\U00010000-\U0010ffff]"
_ALNUM = rf"[^\W_{_NOT_LETTERS}]"
_MARK = (
    "[\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02eb\u02ed\u02ef-\u036f\u0375\u0378\u0379\u0384\u0385\u03f6\u0483-\u0487"
    "\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06e4"
    "\u06e7-\u06ed\u06fd\u06fe\u0711\u0730-\u074a\u07a6-\u07b0\u07eb-\u07f3\u0900-\u0903\u093c\u093e-\u094e"
    "\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc\u09be-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c-\u0a4d"
    "\u0a81-\u0a83\u0abc-\u0acd\u0b82\u0bbe-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d48\u0e31\u0e34-\u0e3a"
    "\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd]"
)
_SYMBOL = (
    "[!-/:-@\\[-`{-~\x80\x91-\x94\x96\x97\xa1-\xb4\xb6-\xbf\xd7\xf7\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6\u05f3"
    "\u05f4\u0600-\u0603\u0606-\u060c\u0614\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f6-\u07f8\u0964\u0965"
    "\u0e3f\u0e4f\u1fbd\u2013-\u2023\u2026\u2030-\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u20a0"
    "\u20a4\u20ac\u2100-\u214f\u2153-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20"
    "\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6]"
)
_CURLY = r"(?:[\u2019\x92]|&apos;)"
_APOS = rf"(?:'|{_CURLY})"
_ANY_APOS = rf"(?:[`\u2018\x91\u201b]|{_APOS})"
_SPELLED = r"&[aeiouAEIOU](?:acute|grave|uml);"

_TITLES = """
    cf dr ft lt mr ms mt ph st vs wm adj adm adv ave cie col cpl det drs ens gen gov hon jos maj mme mrs pfc pvt rep rev
    sen sfc sgt spc ste alex asst atty brig capt cmdr dept elec govs insp invt mlle msgr natl pres prof reps sens supt
    messrs treas lieut assoc profs"""
_ENDINGS = """
    al co ct ga jr ky md mo rd rt sq sr va vt ala apr aug bhd cos dak dec esq est etc ext feb fla fri inc ind jan jul
    jun kan ltd mar mon neb nev nov oct plc sep seq sys tel thu tue wed wis wyo ariz assn bldg blvd bros colo conn corp
    intl kans mich minn mont okla penn sept tenn tues univ wisc thurs calif"""
_CAPITAL_ABBREVIATIONS = "Az La Pa Ark Del Ill Ore Tex Mass Miss Wash AZ LA PA ARK DEL ILL ORE TEX MASS MISS WASH"
_NUMBER_ABBREVIATIONS = "ca no op pp art fig nos figs prop"
_FILE_TYPES = """
    c h x gz pl ps py bat bmp cgi cpp dll doc exe gif htm jar jpg mov pdf php png ppt sql tar txt wav xml zip docx html
    java jpeg class mp3"""
_SENTENCE_STARTS = """
    a about according additionally after an as at but earlier he her here however if in it last many more mr. ms. now
    once one other our she since so some such that the their then there these they this we what when while yet you"""


def _any_of(words: str) -> str:
    return "(?:" + "|".join(re.escape(word) for word in sorted(words.split(), key=len, reverse=True)) + ")"


_NAME = r"[A-Za-z][A-Za-z0-9_:.-]{0,63}+"
_PATH = r"""[^\s"<>|(){}](?:[.!?,-]*+[^\s"<>|(){}.!?,-])++"""
_WORD = rf"(?:{_LETTER}|{_MARK}|{_SPELLED})(?:{_ALNUM}|{_MARK}|{_SPELLED})*+"
_DOTTED = rf"{_WORD}(?:[.!?]{_WORD})*+"
_NUMBER = rf"(?:{_DIGIT}++(?:[.,:\u2044\u066b\u066c]{_DIGIT}++)*+|(?:[.,:]{_DIGIT}++)++)"
_PART = rf"(?:[dDoOlL]{_ANY_APOS}{_ALNUM})?{_ALNUM}++"
_THING = rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*+"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])++\."
_COMPOUND = rf"[A-Za-z0-9][A-Za-z0-9.,]{{0,64}}+(?:-(?:{_ACRONYM}|[A-Za-z0-9]++))++"
_SLASHED = r"[A-Za-z0-9]++(?:-[A-Za-z]++)*+(?:\\?/[A-Za-z0-9]++(?:-[A-Za-z]++)*+){1,2}+"
_PREFIXED = rf"[A-HJ-XZn]{_ANY_APOS}{_LETTER}{{2,}}+"
_CLITIC = r"(?ai:[msd]|re|ve|ll)(?![A-Za-z])"
_GLOTTAL = rf"{_LETTER}+[aeiouyAEIOUY]{_ANY_APOS}[aeiouA-Z]{_LETTER}*+"
_END_WORD = rf"(?ai:{_any_of(_ENDINGS)})|{_any_of(_CAPITAL_ABBREVIATIONS)}|[pP]{{1,2}}t[ey]s?|(?ai:ph|ed)\.[dD]"
_COMPANY = r"[A-Z]++(?:(?:&(?ai:amp);|[&+])[A-Z]++)++"

# The classes of the lexer, with its rule: the longest match wins, and of equally long ones the first named here.
# Whatever can match in vain is bounded, or no longer than the word that wins, so that time stays linear.
_CLASSES = {
    # <b>  </b>  <img src="x"/>  <!-- note -->
    "tag": rf"""<(?:[!?][A-Za-z-][^>]{{0,256}}+|/{_NAME}\s{{0,8}}+|{_NAME}
        (?:\s{{1,8}}+{_NAME}(?:\s{{0,8}}+=\s{{0,8}}+(?:'[^']{{0,256}}+'|"[^"]{{0,256}}+"))?+){{0,16}}+
        \s{{0,8}}+/?\s{{0,8}}+)>""",
    "url": rf"(?ai:https?)://{_PATH}",
    # Without www. neither digits nor capitals: the range from "," to "_" shuts them out.
    "site": rf"""(?:(?ai:www)\.(?:[^\s"<>|.!?(){{}},]{{1,63}}+\.){{1,16}}[A-Za-z]{{2,4}}
        |(?:[^\s"`'<>|!?(){{}}$,-_]{{1,63}}+\.){{1,16}}(?:com|net|org|edu))(?:/{_PATH})?+""",
    "email": r"""(?:<|&lt;)?[A-Za-z0-9][^\s"<>|(){}]{0,64}@(?:[^\s"<>|(){}.]++\.)*[^\s"<>|(){}.]++>?""",
    "handle": rf"@[A-Za-z_][A-Za-z0-9_]*+|\#(?:{_LETTER}|{_MARK})++",
    "entity": r"&(?ai:amp|lt|gt|quot|nbsp|[mn]dash|md);|&\#\d++;|&(?:HT|TL|UR|LR|QC|QL|QR|ODQ|CDQ);",
    # (555) 123-4567  555 123 4567  555.123.4567
    "phone": r"""(?:\([0-9]{2,3}\)\s?|\+{0,2}(?:[0-9]{2,4}[-\s]){1,2})[0-9]{3,4}[-\s]?[0-9]{3,5}
        |\+{0,2}(?:[0-9]{2,4}\.){1,2}[0-9]{3,4}\.[0-9]{3,5}""",
    "date": r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}",
    "fraction": r"(?:[0-9]{1,4}[-\s])?[0-9]{1,4}\\?/[0-9]{1,4}",
    "number": rf"[+-]?{_NUMBER}",
    # Of "don't" only the verb is taken, but the whole counts; "n't" follows as a clitic. 'tis and 'twas likewise.
    "inflected": rf"(?P<stem>{_DOTTED}){_APOS}(?ai:[msd]|re|ve|ll)",
    "negated": rf"(?P<verb>[A-Za-z]*[A-MO-Za-mo-z])[nN]{_ANY_APOS}[tT]",
    "archaic": r"(?ai:(?P<it>'t(?=is|was)|more(?='n))(?:is|was|'n))",
    # Before more letters an ASCII quote opens a quotation: no clitic then.
    "clitic": rf"'{_CLITIC}|{_CURLY}(?ai:[msd]|re|ve|ll)|[nN]{_ANY_APOS}[tT](?![A-Za-z])",
    # 'em  rock 'n' roll  ol'  '90s  c'mon
    "elided": rf"""{_APOS}(?ai:em|till?|cause|n{_APOS}|[2-9]0s)|{_APOS}(?:[nN]|[0-9]{{2}})(?=\s)|{_CURLY}[nN]
        |[yY]{_APOS}(?={_LETTER})|(?ai:dunkin|somethin|ol){_APOS}|[dljDLJ]{_APOS}
        |(?ai:c'mon|c'est|e'er|s'mores|ev'ry|cap'n|li'l|nat'l|nor'easter)""",
    "apostrophe": rf"{_PREFIXED}|{_GLOTTAL}",
    "word": _WORD,
    "dotted": _DOTTED,
    "thing": _THING,
    # These may end a sentence: what follows counts for the length.
    "ending": rf"(?P<abbreviated>(?:{_END_WORD})\.)(?s:.{{0,2}}+)",
    "slashed": _SLASHED,
    # a.m.-style  10,000-seat  anti-U.S.
    "compound": _COMPOUND,
    "file": rf"{_ALNUM}++(?:\.{_ALNUM}++){{0,16}}?\.(?ai:{_any_of(_FILE_TYPES)})(?=[\s.,!?])",
    "abbreviation": rf"""(?:(?ai:{_any_of(_TITLES)})|[mM][ft]g)\.
        |(?ai:{_any_of(_NUMBER_ABBREVIATIONS)})\.(?=\s*\d)""",
    "acronym": _ACRONYM,
    "initial": rf"[A-Za-z]\.(?!\s+(?=[A-Z])(?ai:{_any_of(_SENTENCE_STARTS)})\s|\s+<[!?/]?[A-Za-z][^<>]{{0,64}}>\s)",
    "stopped": rf"(?P<stop>(?:{_DOTTED}|{_THING}|{_COMPOUND}|{_COMPANY})\.)[,;:]",
    "company": rf"{_COMPANY}|[A-Z]++\$|[cC]\+\+|[cCfF]\#",
    "smiley": r"[<>]?[:;=][-'o*]?[()@DOP\[\\\]dp{|](?![A-Za-z0-9])|[-'<=>^x~]_[-'<=>^x~]",
    "quotes": r"[`\xab\xbb\u2039\u203a\u2018-\u201f\x91-\x94]{1,2}|''|``|&apos;",
    "run": r"-{5,}+|-{2,4}|<<|>>|_++|@++|\#++|[?!]++|\.{3,5}|\*++|(?:\\\*)++",
    "raised": r"[\xb2\xb3\xb9\u2070\u2074-\u2079]++|[\u2080-\u2089]++",
    "symbol": _SYMBOL,
}
_LONGEST = re.compile("".join(rf"(?=(?P<{name}>{pattern})?)" for name, pattern in _CLASSES.items()), re.VERBOSE)
# A short cut that gives the same: words of letters, and commas and points that are no part of them.
_SHORTENED = f"{_TITLES} {_ENDINGS} {_CAPITAL_ABBREVIATIONS} {_NUMBER_ABBREVIATIONS} mfg mft"
_KEEPS_POINT = rf"(?ai:{_any_of(_SHORTENED)}|pp?t[ey]s?)\."
_PLAIN = re.compile(rf"[ \n]*+(?:(?:[A-Za-z]++,?+|[.,]|(?!{_KEEPS_POINT})[A-Za-z]{{2,}}+\.)[ \n]++)++|[ \n]++")
# In these only the named part is taken; the rest of the match is read again.
_TAKEN = {"negated": "verb", "archaic": "it", "inflected": "stem", "ending": "abbreviated", "stopped": "stop"}
# Contractions written as one word: where they are cut.
_FUSED = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3}
_OPENING, _CLOSING = "([{", ")]}"
_BRACKETS = dict(zip(["-lrb-", "-lsb-", "-lcb-", "-rrb-", "-rsb-", "-rcb-"], _OPENING + _CLOSING, strict=True))
_SUFFIXES = {"'s", "'m", "'d", "'re", "'ve", "'ll", "n't", "-rrb-", "-rsb-", "-rcb-"}
_SPELLINGS = {
    **{bracket: word for word, bracket in _BRACKETS.items()},
    **{"€": "$", "¤": "$", "\u20a0": "$", "\x80": "$", "£": "#", "¢": "cents"},
    **{"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "&amp;": "&", "&lt;": "<", "&gt;": ">"},
    **dict.fromkeys(["&mdash;", "&ndash;", "&md;", "\u2013", "\u2014", "\u2015", "\x96", "\x97"], "--"),
    **dict.fromkeys(['"', "&quot;", "&nbsp;"], "''"),
    **dict.fromkeys(["…", "....", ".....", "---", "----"], "..."),
}
_POINTS = str.maketrans(".,", "  ")
_QUOTES = str.maketrans(
    {
        **dict.fromkeys("\x91\u2018\u201b\u2039", "`"),
        **dict.fromkeys("\x92\u2019\u203a", "'"),
        **dict.fromkeys("\x93\u201c\xab", "``"),
        **dict.fromkeys("\x94\u201d\xbb", "''"),
    }
)


def tokenize(caption: str) -> list[str]:
    text = _SEPARATOR.sub(" ", caption).replace(_SOFT_HYPHEN, "") + "\n"
    return [word for token in _lex(text) if token not in _PUNCTUATION for word in token.split()]


def _lex(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if plain := _PLAIN.match(text, position):
            for word in plain[0].lower().translate(_POINTS).split():
                yield from _spell("word", word)
            position = plain.end()
        else:
            kind, end = _longest(text, position)
            yield from _spell(kind, text[position:end].lower())
            position = end


def _longest(text: str, position: int) -> tuple[str, int]:
    """The class and end of the token that starts here; where none does, one character of class ""."""
    match = _LONGEST.match(text, position)
    assert match is not None
    kind = max(_CLASSES, key=match.end)
    if match.end(kind) < 0:
        return "", position + 1
    return kind, match.end(_TAKEN.get(kind, kind))


def _spell(kind: str, token: str) -> list[str]:
    match kind:
        case "":
            return []
        case "word" if token in _FUSED:
            return [token[: _FUSED[token]], token[_FUSED[token] :]]
        case "clitic" | "quotes":
            return [token.replace("&apos;", "'").translate(_QUOTES)]
        case "smiley" | "phone":
            return [token.replace("(", "-lrb-").replace(")", "-rrb-")]
        case "company":
            return [token.replace("&amp;", "&")]
        case _:
            return [_SPELLINGS.get(token, token)]


class Vocabulary:
    """Words and their ids: the four specials first, then in the order given."""

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[: len(_SPECIALS)]) != _SPECIALS:
            raise ValueError(f"a vocabulary starts with {_SPECIALS}, not with {tuple(words[: len(_SPECIALS)])}")
        if repeated := [word for word, count in Counter(words).items() if count > 1]:
            raise ValueError(f"words that are in the vocabulary more than once: {repeated}")
        self._words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words)}

    @classmethod
    def from_captions(cls, captions: Iterable[str], *, min_count: int) -> Self:
        """Words seen at least `min_count` times: the most frequent first, equally frequent ones by the alphabet."""
        counts = Counter(word for caption in captions for word in tokenize(caption) if word not in _SPECIALS)
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls([*_SPECIALS, *sorted(frequent, key=lambda word: (-counts[word], word))])

    @property
    def words(self) -> tuple[str, ...]:
        return self._words

    def __len__(self) -> int:
        return len(self._words)

    def id_of(self, word: str) -> int:
        return self._ids.get(word, UNK_ID)

    def encode(self, caption: str) -> list[int]:
        # A caption that spells out "<end>" must not end itself: specials in the text are unknown words.
        return [START_ID, *(max(self.id_of(word), UNK_ID) for word in tokenize(caption)), END_ID]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text up to the first end, without specials."""
        before_end = itertools.takewhile(lambda index: index != END_ID, ids)
        return _join(self._words[index] for index in before_end if index > UNK_ID)


def _join(words: Iterable[str]) -> str:
    """The text that `tokenize` takes apart into these words, as far as there is one."""
    text, glue = "", True
    for word in words:
        written = _BRACKETS.get(word, word)
        fused = text.rpartition(" ")[2] + word in _FUSED
        text += written if glue or fused or word in _SUFFIXES else " " + written
        glue = written in _OPENING
    return text
