"""What the model looked at: who can tell, where the grids lie on the picture, and work that follows a caption."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.batcher_errors import DeadlineExceededError
from service.captioned import Captioned
from service.errors import NoAttentionError
from service.pipeline import Pipeline
from service.schemas import AttentionGridBody
from shared.bundle import Bundle
from shared.captioner import Candidate
from shared.image import Resize, seen_box

Result = TypeVar("Result")


def require_attention(bundle: Bundle) -> None:
    if not bundle.has_attention:
        raise NoAttentionError(
            f"the model {bundle.name} looks at the whole picture once, so it cannot tell where it looked for a word"
        )


def attention_grid(size: tuple[int, int], candidate: Candidate, resize: Resize) -> AttentionGridBody:
    """Where the cells of a candidate's grids lie in the upright picture (width, height)."""
    width, height = size
    _, rows, columns = candidate.attention.shape
    left, top, right, bottom = seen_box(size, resize)
    return AttentionGridBody(
        width=width, height=height, rows=rows, columns=columns, left=left, top=top, right=right, bottom=bottom
    )


async def captioned_then(
    pipeline: Pipeline, captioning: Awaitable[Captioned], after: Callable[[Captioned], Result], timeout_s: float
) -> tuple[Captioned, Result]:
    """The caption, and what `after` makes of it on a decode thread, all within one deadline."""
    timeout_s = min(timeout_s, pipeline.timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            captioned = await captioning
            return captioned, await pipeline.decode_pool.run(lambda: after(captioned))
    except TimeoutError:
        raise DeadlineExceededError(timeout_s) from None
