"""What browsers are told: which pages may do what, and which sites may ask."""

import base64
import hashlib
import re
from collections.abc import Sequence

from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CDN = "https://cdn.jsdelivr.net"
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGE_HEADERS = {"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Content-Security-Policy": NOTHING}
"""Of every HTML page that does not bring its own."""

PAGE_POLICY = (
    f"{NOTHING}; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The web page: files of its own, requests to this service, and pictures that it has in memory."""


class SecurityHeaders:
    """ASGI: no answer is taken for another type than it says, no page is framed, and none runs what it did not say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                if headers.get("content-type", "").startswith("text/html"):
                    for name, value in PAGE_HEADERS.items():
                        headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, with_headers)


def cors(app: ASGIApp, *, origins: Sequence[str]) -> CORSMiddleware:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=(
            "Authorization",
            "Content-Type",
            "X-API-Key",
            "X-Request-Id",
            "X-Request-Timeout-Ms",
            "traceparent",
        ),
        expose_headers=("Retry-After", "Server-Timing", "X-Model-Version", "X-Request-Id"),
    )


def docs_page(title: str) -> HTMLResponse:
    """Swagger UI, whose one inline script is named by its hash."""
    page = get_swagger_ui_html(openapi_url="openapi.json", title=title, swagger_favicon_url="data:,")
    scripts = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts)
    page.headers["Content-Security-Policy"] = (
        f"{NOTHING}; script-src {CDN} {hashes}; style-src {CDN} 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'"
    )
    return page
