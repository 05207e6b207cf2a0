"""What the model looked at: who can tell, where the grids lie on the picture, and work that follows a caption."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from service.captioned import Captioned
from service.deadline import deadline
from service.errors import NoAttentionError
from service.pipeline import Pipeline
from service.schemas import AttentionGridBody
from shared.bundle import Bundle
from shared.captioner import Candidate
from shared.image import Resize, seen_box, upright_size

Result = TypeVar("Result")
CaptionedWithSize: TypeAlias = tuple[Captioned, tuple[int, int] | None]


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
    async with deadline(min(timeout_s, pipeline.timeout_s)):
        captioned = await captioning
        return captioned, await pipeline.decode_pool.run(lambda: after(captioned))


async def captioned_with_size(
    pipeline: Pipeline,
    captioning: Awaitable[Captioned],
    picture: Callable[[], bytes],
    timeout_s: float,
    *,
    explain: bool,
) -> CaptionedWithSize:
    """The size, of the upright picture, is only measured for an explanation."""
    if not explain:
        return await captioning, None
    return await captioned_then(pipeline, captioning, lambda _: upright_size(picture(), pipeline.limits), timeout_s)
