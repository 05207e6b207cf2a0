"""The captions of many pictures, written as JSON, as NDJSON or as CSV."""

import csv
import io
from collections.abc import Iterable
from typing import Literal, TypeAlias

from service.errors import Refusal
from service.schemas import CaptionItem, ErrorDetail, ErrorItem

Listing: TypeAlias = Literal["application/json", "application/x-ndjson", "text/csv"]
LISTINGS: tuple[Listing, ...] = ("application/json", "application/x-ndjson", "text/csv")
COLUMNS = ("index", "name", "status", "caption", "log_probability", "error_code", "error_message")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""By which a spreadsheet takes a text for a formula, or for the end of a cell."""


def wanted(accept: str) -> Listing:
    """What the client likes best of what there is; JSON if it likes nothing of it."""
    ranges = [_quality(each) for each in accept.split(",")]
    likes = {listing: max((q for kind, q in ranges if _covers(kind, listing)), default=0.0) for listing in LISTINGS}
    for kind, quality in ranges:
        if kind in likes:
            likes[kind] = quality
    return max(LISTINGS, key=likes.__getitem__)


def _quality(media_range: str) -> tuple[str, float]:
    kind, *parameters = [part.strip().lower() for part in media_range.split(";")]
    quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0


def _covers(media_range: str, listing: Listing) -> bool:
    return media_range in ("*/*", listing, listing.partition("/")[0] + "/*")


def failed(index: int, name: str, refusal: Refusal) -> ErrorItem:
    error = ErrorDetail(code=refusal.code, message=refusal.message)
    return ErrorItem(index=index, name=name, status=refusal.status, error=error)


def json_of(item: CaptionItem | ErrorItem) -> str:
    return item.model_dump_json(exclude_none=True)


def json_listing(items: Iterable[str]) -> str:
    return f'{{"results":[{",".join(items)}]}}'


def csv_listing(items: Iterable[CaptionItem | ErrorItem]) -> str:
    """By RFC 4180: every text quoted, lines ended by CR and LF."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    for item in items:
        name = _harmless(item.name)
        if isinstance(item, CaptionItem):
            row = [item.index, name, item.status, _harmless(item.caption), item.log_probability, "", ""]
        else:
            row = [item.index, name, item.status, "", "", item.error.code, _harmless(item.error.message)]
        writer.writerow(row)
    return file.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
