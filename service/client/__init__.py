"""A client for programs: `CaptionClient`, and `AsyncCaptionClient` on asyncio. It takes the extra `client`.

    with CaptionClient("http://localhost:8000") as client:
        print(client.caption("photo.jpg").caption)
        for answer in client.captions(Path("photos").glob("*.jpg")):
            print(answer.picture, answer.caption or answer.error)

exchange.py       from a request to its result: what is asked again, and when; no input or output
errors.py         what a client may meet
pictures.py       what counts as a picture
synchronous.py    the two clients: how requests travel and how waits pass
asynchronous.py
"""

from service.client.asynchronous import AsyncCaptionClient
from service.client.errors import (
    BusyError,
    ClientError,
    DeadlineError,
    RefusedError,
    ServiceError,
    UnauthorizedError,
    UnreachableError,
)
from service.client.exchange import Answer, Options
from service.client.pictures import Picture
from service.client.synchronous import CaptionClient
from service.schemas import CandidateBody, CaptionBody, ModelBody, WordBody

__all__ = [
    "Answer",
    "AsyncCaptionClient",
    "BusyError",
    "CandidateBody",
    "CaptionBody",
    "CaptionClient",
    "ClientError",
    "DeadlineError",
    "ModelBody",
    "Options",
    "Picture",
    "RefusedError",
    "ServiceError",
    "UnauthorizedError",
    "UnreachableError",
    "WordBody",
]
