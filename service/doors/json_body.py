"""Bodies of JSON, checked by a model."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import BadParameterError

Model = TypeVar("Model", bound=BaseModel)
PROBLEMS = 3
"""Named in one message."""


def json_in(body: bytes | bytearray, kind: type[Model]) -> Model:
    return _checked(lambda: kind.model_validate_json(bytes(body)))


def checked(values: dict[str, Any], kind: type[Model]) -> Model:
    return _checked(lambda: kind.model_validate(values))


def _checked(read: Callable[[], Model]) -> Model:
    try:
        return read()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:PROBLEMS]
        raise BadParameterError("; ".join(_sentence(each["loc"], each["msg"]) for each in problems)) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    place = ".".join(map(str, location))[:80] or "the body"
    return f"{place}: {message[:1].lower()}{message[1:]}"
