"""What scores do not show of a model's captions: whether they end, repeat each other, and how many words they know."""

from collections.abc import Sequence

from shared.captioner import BAD_ENDINGS
from shared.vocabulary import UNK, tokenize


def caption_health(captions: Sequence[str]) -> dict[str, float]:
    """`dangling_endings` and `unknown_words` are shares of the captions (0 to 1), `mean_length` is in words, the others
    are counts. An empty caption dangles."""
    if not captions:
        raise ValueError("there are 0 captions; their health needs at least one")
    said = [tuple(tokenize(caption)) for caption in captions]
    return {
        "dangling_endings": sum(not words or words[-1].rstrip(".") in BAD_ENDINGS for words in said) / len(said),
        "unknown_words": sum(UNK in words for words in said) / len(said),
        "unique_captions": len(set(said)),
        "distinct_words": len({word for words in said for word in words} - {UNK}),
        "mean_length": sum(map(len, said)) / len(said),
    }
