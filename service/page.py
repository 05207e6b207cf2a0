"""The web page at / and the files that it is made of: read once, and served with a policy that lets in nothing else."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from service.web_security import PAGE_POLICY

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Of what is served; the folder has pictures for the README, too."""


@dataclass(frozen=True)
class PageFile:
    content: bytes
    media_type: str
    etag: str


def page_router(folder: Path = STATIC) -> APIRouter:
    files = read_page(folder)
    router = APIRouter(include_in_schema=False)

    @router.get("/", responses={304: {}})
    async def home(request: Request) -> Response:
        return _answer(files[INDEX], request)

    @router.get("/static/{name}", responses={304: {}, 404: {}})
    async def part(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404)
        return _answer(files[name], request)

    return router


def read_page(folder: Path) -> Mapping[str, PageFile]:
    found = {}
    for path in folder.iterdir():
        if path.suffix in TYPES:
            content = path.read_bytes()
            found[path.name] = PageFile(content, TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found


def _answer(file: PageFile, request: Request) -> Response:
    headers = {"Cache-Control": "no-cache", "ETag": file.etag, "Content-Security-Policy": PAGE_POLICY}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
