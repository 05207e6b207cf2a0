"""A refusal as bytes, for a connection that the app never saw or cannot answer any more."""

import json
import secrets


def refusal(code: str, message: str, *, retry_after_s: int) -> bytes:
    """A whole 503 with the headers that every answer has; the connection is to be closed behind it."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"retry-after: {retry_after_s}",
        "x-content-type-options: nosniff",
        f"x-request-id: {secrets.token_hex(16)}",
        "server-timing: total;dur=0",
        "connection: close",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
