"""The tokens are those of the Java tool of COCO's evaluation; words, ids and text go around without loss."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.vocabulary import END, END_ID, PAD, PAD_ID, START, START_ID, UNK, UNK_ID, Vocabulary, tokenize

SPECIALS = [PAD, START, END, UNK]

# What the Java tokenizer gave for each caption.
EXAMPLES = {
    "A man's dog doesn't like it, can't swim": "a man 's dog does n't like it ca n't swim",
    "they'll won't we've I'd I'm you're": "they 'll wo n't we 've i 'd i 'm you 're",
    "Cannot gonna wanna gotta lemme gimme": "can not gon na wan na got ta lem me gim me",
    "'tis 'twas more'n": "'t is 't was more 'n",
    "cannots gonna's wannabe can-not": "cannots gonna 's wannabe can-not",
    "it\u2019s don\u2019t o\u2019clock y\u2019all dogs\u2019": "it 's do n't o\u2019clock y\u2019 all dogs",
    "O'Brien o'clock ma'am y'all Hawai'i": "o'brien o'clock ma'am y' all hawai'i",
    "rock'n'roll 'em ol' '90s": "rock 'n' roll 'em ol' '90s",
    "the dogs' bowls and James's hat": "the dogs bowls and james 's hat",
    "a half-eaten T-shirt's merry-go-round a - b a--b": "a half-eaten t-shirt 's merry-go-round a b a b",
    "Mr. Smith of St. Louis, U.S. vs. Inc. in Jan.": "mr. smith of st. louis u.s. vs. inc. in jan.",
    "they left at 5 p.m.": "they left at 5 p.m.",
    "two lbs. of fish.": "two lbs of fish",
    "It shows the letter c. The end": "it shows the letter c the end",
    "plan b. is next": "plan b. is next",
    "a dog., a cat.; done.": "a dog. a cat. done",
    "1,000.50 .5 -5 1/2 3-1/2 2 1/2 10:30": "1,000.50 .5 -5 1/2 3-1/2 2 1/2 10:30",
    "1990s 2nd 50% 12/25/2010 5x": "1990s 2nd 50 % 12/25/2010 5x",
    "$5.00 US$5 €5 £5 5¢": "$ 5.00 us$ 5 $ 5 # 5 5 cents",
    "5'10\" tall in '98": "5 10 tall in '98",
    "(555) 123-4567 or 1-800-555-1234": "-lrb-555-rrb- 123-4567 or 1-800-555-1234",
    "wait... what…ever . . . yes.. no": "wait what ever yes no",
    "salt &amp; pepper &lt;3 &quot;hi&quot;": "salt & pepper < 3 hi",
    "caf&eacute; it&apos;s &#39;": "caf&eacute; it 's &#39;",
    "\"a\" 'b' \u201cc\u201d \u2018e\u2019 ``f'' «g»": "a b c e f g",
    "(a) [b] {c} <d>": "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb- <d>",
    "and/or w/ his / her 5* ** 24/7 a\\/b": "and/or w / his / her 5 * ** 24/7 a\\/b",
    "AT&T R&B b&w C++ salt & pepper": "at&t r&b b & w c++ salt & pepper",
    "http://a.com/b?c=d. www.foo.com me@x.co.uk": "http://a.com/b?c=d www.foo.com me@x.co.uk",
    "@user #tag #1 avrovulcan.com": "@user #tag # 1 avrovulcan.com",
    "a \u2013 b\u2014c \u2212 d --- e -----": "a b c \u2212 d e -----",
    "naïve café Привет 日本語": "naïve café привет 日本語",
    "½ 5½ 20° ™": "1/2 5 1/2 20 ° ™",
    "a 😀dog🐶 runs": "a dog runs",
    "nice :) ;-) :D ^_^ :/": "nice :-rrb- ;--rrb- :d ^_^ /",
    "really?! what?? no! yes? a; b: c": "really ?! what ?? no yes a b c",
    "a + b = c ~ | \\ _ ^ %": "a + b = c ~ | \\ _ ^ %",
    "<b>bold</b> <a href='x'> < c > <!-- d -->": "<b> bold </b> <a href='x'> < c > <!-- d -->",
    " . ": "",
}

# Joined in all pairs, with each of the joints, these are the tricky captions.
PIECES = """
    dog man's can't cannot gonna wanna U.S. a.m. 5p.m. Mr. St. Inc. etc. No. C. The o'clock rock'n'roll y'all ma'am
    t-shirt co-worker's 1/2 3-1/2 1,000.50 50% $5.00 #1 3:45 2nd 1990s '90s '10 5'10" (a) [b] {c} and/or * @user #tag
    me@x.com http://a.com/b www.a.com a.com a.jpg &amp; &lt; AT&T R&B "hi" 'hi' ``d'' ... . , ; : ! ?! - -- \u2014 ½
    €5 café \u201cq\u201d \u2018q\u2019 don\u2019t dogs\u2019 日本語 Привет ° 1-800-555-1234 (555) 123-4567 :) ;-D
    ^_^ <b> </b> C++ 's n't 'n' 'em 'tis ol' L'Oreal Xi'an Ph.D. x-ray U.S.-based mid-'90s / + = _ we've \u2026 \\*
"""
JOINTS = ["", " ", "-", ".", "'", ", "]

WORD_SOUP = st.text(alphabet="abdelmnorstvIST059'\u2019`.,-_/<>&;:@#$%()!?* \n\té½") | st.text()
# What tends to make regular expressions explode.
HOSTILE = [
    "a",
    "'",
    "<",
    "<a ",
    "<a b='",
    "<!-",
    "a.",
    "a-",
    "a.-",
    "5a.",
    "1/",
    "1 ",
    "a@",
    "a~",
    "*.",
    "http://",
    "www.",
]
HOSTILE += ["(555) ", "a. ", "ab'", "n't", "A&", "&eacute;", "\U0001f600", "\u0301", " ", "\0", "~" * 63 + "."]


def real_captions() -> Iterator[str]:
    folder = os.environ.get("CAPTION_TEST_DATA")
    if folder is None:
        pytest.skip("CAPTION_TEST_DATA is not set")
    files = sorted(Path(folder).glob("*/annotations/captions_*.json"))
    assert files, f"no captions in {folder}"
    for file in files:
        yield from (str(entry["caption"]) for entry in json.loads(file.read_text(encoding="utf-8"))["annotations"])


def java_tokens(captions: Sequence[str]) -> list[list[str]]:
    if shutil.which("java") is None:
        if os.environ.get("CI"):
            pytest.fail("the comparison with the Java tokenizer needs java")
        pytest.skip("java is not installed")
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    by_id = PTBTokenizer().tokenize({index: [{"caption": caption}] for index, caption in enumerate(captions)})
    return [by_id[index][0].split() for index in range(len(captions))]


def assert_same_as_java(captions: Sequence[str]) -> None:
    compared = zip(captions, java_tokens(captions), map(tokenize, captions), strict=True)
    differing = [(caption, java, ours) for caption, java, ours in compared if java != ours]
    assert not differing, f"{len(differing)} of {len(captions)} differ: {differing[:5]}"


@pytest.mark.parametrize(("caption", "tokens"), EXAMPLES.items())
def test_a_caption_gives_the_tokens_of_coco_evaluation(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


def test_every_real_caption_gives_the_tokens_of_the_java_tokenizer() -> None:
    assert_same_as_java(list(real_captions()))


def test_tricky_captions_give_the_tokens_of_the_java_tokenizer() -> None:
    pairs = [
        first + joint + second for first, joint, second in itertools.product(PIECES.split(), JOINTS, PIECES.split())
    ]
    # "Zz" starts no sentence: with it between any two, no caption depends on the next, as they do in one text.
    assert_same_as_java([text for caption in [*EXAMPLES, *pairs] for text in (caption, "Zz")])


@given(WORD_SOUP)
@example("\ud800 \udfff")
@example("<a href='\n'>\x1c\x85")
def test_any_text_gives_lower_case_words_without_space(text: str) -> None:
    tokens = tokenize(text)
    assert all(token.split() == [token] and token == token.lower() for token in tokens)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_line_break_is_a_space(line_break: str) -> None:
    assert tokenize(f"A dog{line_break}runs at 5 p.m.{line_break}") == ["a", "dog", "runs", "at", "5", "p.m."]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_stays_linear(piece: str) -> None:
    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        begin = time.process_time()
        tokenize(text)
        return time.process_time() - begin

    assert seconds(10_000) < 1
    assert seconds(50_000) < 4


@given(
    st.lists(st.sampled_from(["dog", "dog's", "can't", "U.S.", "t-shirt", "gonna", "50%", "o'clock", "1/2", "\u2019"]))
)
def test_plain_tokens_are_their_own_tokens(words: list[str]) -> None:
    tokens = tokenize(" ".join(words))
    assert tokenize(" ".join(tokens)) == tokens


def test_the_vocabulary_of_captions_is_ordered_by_count_then_alphabet() -> None:
    vocabulary = Vocabulary.from_captions(["A red dog.", "a dog", "a cat's red ball"], min_count=1)
    assert vocabulary.words == (*SPECIALS, "a", "dog", "red", "'s", "ball", "cat")
    assert len(vocabulary) == 10


def test_the_vocabulary_of_captions_keeps_the_words_seen_often_enough() -> None:
    assert Vocabulary.from_captions(["a a b", "b c"], min_count=2).words == (*SPECIALS, "a", "b")


def test_specials_come_first_and_unknown_words_have_the_id_of_unk() -> None:
    vocabulary = Vocabulary([*SPECIALS, "dog"])
    assert [vocabulary.id_of(word) for word in (*SPECIALS, "dog", "cat")] == [0, 1, 2, 3, 4, 3]
    assert (PAD_ID, START_ID, END_ID, UNK_ID) == (0, 1, 2, 3)


@pytest.mark.parametrize("words", [[], ["dog"], [START, PAD, END, UNK], SPECIALS[:3]])
def test_words_without_the_specials_first_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"starts with .*<pad>"):
        Vocabulary(words)


def test_repeated_words_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"more than once: \['dog', '<pad>'\]|more than once: \['<pad>', 'dog'\]"):
        Vocabulary([*SPECIALS, "dog", "cat", "dog", PAD])


def test_a_caption_is_encoded_between_start_and_end() -> None:
    vocabulary = Vocabulary([*SPECIALS, "a", "dog"])
    assert vocabulary.encode("A dog, a cat.") == [START_ID, 4, 5, 4, UNK_ID, END_ID]


def test_a_caption_cannot_spell_a_special() -> None:
    vocabulary = Vocabulary.from_captions(["a <end> <pad> b"], min_count=1)
    assert vocabulary.words == (*SPECIALS, "a", "b")
    assert vocabulary.encode("a <end> b <pad>") == [START_ID, 4, UNK_ID, 5, UNK_ID, END_ID]


def test_decoding_stops_at_the_end_and_drops_specials() -> None:
    vocabulary = Vocabulary([*SPECIALS, "a", "dog"])
    assert vocabulary.decode([START_ID, 4, UNK_ID, 5, PAD_ID, END_ID, 5, 5]) == "a dog"
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "a man's dog doesn't run",
        "they can't and won't, we've",
        "you cannot say gonna",
        "a sign (in red) says [stop]",
        "'s",
        "at 5 p.m. in a half-eaten t-shirt",
    ],
)
def test_decoded_text_reads_as_it_was_written(text: str) -> None:
    vocabulary = Vocabulary.from_captions([text], min_count=1)
    assert vocabulary.decode(vocabulary.encode(text)) == text.replace(",", "")


@given(st.lists(st.from_regex(r"[a-z]{1,8}('s|n't)?", fullmatch=True)))
def test_words_come_back_from_their_ids(words: list[str]) -> None:
    vocabulary = Vocabulary.from_captions([" ".join(words)], min_count=1)
    ids = vocabulary.encode(" ".join(words))
    assert vocabulary.encode(vocabulary.decode(ids)) == ids


def comes_back(vocabulary: Vocabulary, caption: str) -> bool:
    ids = vocabulary.encode(caption)
    return vocabulary.encode(vocabulary.decode(ids)) == ids


def test_every_real_caption_comes_back_from_its_ids() -> None:
    captions = list(real_captions())
    vocabulary = Vocabulary.from_captions(captions, min_count=1)
    lost = [caption for caption in captions if not comes_back(vocabulary, caption)]
    assert lost == []
