"""A caption with its way through the service, and how it is known and kept in a cache."""

import weakref
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from service.model_source import LoadedModel
from shared.bundle import DecodeOptions
from shared.captioner import Caption

CacheOutcome: TypeAlias = Literal["miss", "hit", "coalesced"]


@dataclass(frozen=True, slots=True)
class Captioned:
    """A hit took no time in any stage; the stages of a coalesced picture are those of the one that was under way."""

    caption: Caption
    decode_s: float
    queue_s: float
    cache: CacheOutcome = "miss"


@dataclass(frozen=True, slots=True)
class Key:
    """What decides about a caption."""

    digest: bytes
    options: DecodeOptions
    model: weakref.ref[LoadedModel]  # a cache must not keep a model


def for_the_cache(caption: Caption) -> Captioned:
    """Its arrays are views that would keep those of a whole batch."""
    candidates = tuple(replace(found, attention=found.attention.copy()) for found in caption.candidates)
    return Captioned(Caption(candidates, encode_s=0, beam_search_s=0), decode_s=0, queue_s=0, cache="hit")


def bytes_of(captioned: Captioned) -> int:
    """Near enough: a word with its log-probability takes about 100 bytes."""
    return sum(found.attention.nbytes + 100 * (2 + len(found.words)) for found in captioned.caption.candidates)
