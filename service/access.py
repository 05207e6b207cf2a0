"""Who may ask, and how often: dependencies that stand before a route, and say so in the OpenAPI document."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.errors import UnauthorizedError
from service.keys import Keys
from service.rate_limit import RateLimiter, network_of

HOW = 'send it as "Authorization: Bearer KEY" or as "X-API-Key: KEY"'

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]
Header = Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))]


def admission(keys: Keys | None, limiter: RateLimiter | None) -> Sequence[Any]:
    """The limit counts by the name of the key, or by address where no keys are asked for."""

    async def with_key(request: Request, bearer: Bearer, header: Header) -> None:
        assert keys is not None
        key = bearer.credentials if bearer else header
        if key is None:
            raise UnauthorizedError(f"this needs a key; {HOW}")
        if (owner := keys.owner(key)) is None:
            raise UnauthorizedError("this key is not known here")
        if limiter is not None:
            limiter.take(owner)

    async def with_address(request: Request) -> None:
        assert limiter is not None
        limiter.take(network_of(request.client.host if request.client else ""))

    if keys is not None:
        return [Depends(with_key)]
    return [] if limiter is None else [Depends(with_address)]
