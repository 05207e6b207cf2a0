"""Forms (multipart/form-data), taken apart as they arrive: a part is whole as soon as its last byte is here."""

from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import NoImageError


@dataclass
class Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    disposition: dict[bytes, bytes] = field(default_factory=dict)
    size: int = 0
    """Bytes that came; of one with more than a part may have nothing is kept."""

    @property
    def name(self) -> str:
        return self.disposition.get(b"name", b"").decode("utf-8", "replace")

    @property
    def file_name(self) -> str:
        return self.disposition.get(b"filename", b"").decode("utf-8", "replace")

    @property
    def media_type(self) -> str:
        return self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")

    @property
    def is_file(self) -> bool:
        return b"filename" in self.disposition or b"content-type" in self.headers


def boundary_of(content_type: str) -> bytes | None:
    """None if this is no form."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary", b"") if kind == b"multipart/form-data" else None


class Form:
    def __init__(self, boundary: bytes, *, max_parts: int, max_part_bytes: int, how: str) -> None:
        """Every NoImageError ends with `how` to do it right."""
        self._max_parts, self._max_part_bytes, self._how = max_parts, max_part_bytes, how
        self._begun = 0
        self._part = Part()
        self._whole: list[Part] = []
        self._ended = False
        self._name, self._value = bytearray(), bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_content,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise self._unreadable(error) from None

    @property
    def held(self) -> int:
        """Bytes of the part that is not whole yet."""
        return len(self._part.content)

    def write(self, data: bytes) -> list[Part]:
        """The parts that are whole now."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise self._unreadable(error) from None
        whole, self._whole = self._whole, []
        return whole

    def close(self) -> None:
        if not self._ended:
            raise NoImageError(f"the multipart body stops before its closing boundary; {self._how}")

    def _unreadable(self, error: FormParserError) -> NoImageError:
        return NoImageError(f"the multipart body cannot be read ({error}); {self._how}")

    def _begin_part(self) -> None:
        if self._begun == self._max_parts:
            raise NoImageError(f"the form has more than {self._max_parts} fields; {self._how}")
        self._begun += 1
        self._part = Part()

    def _add_name(self, data: bytes, start: int, stop: int) -> None:
        self._name += data[start:stop]

    def _add_value(self, data: bytes, start: int, stop: int) -> None:
        self._value += data[start:stop]

    def _end_header(self) -> None:
        self._part.headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        self._part.disposition = parse_options_header(self._part.headers.get(b"content-disposition"))[1]

    def _add_content(self, data: bytes, start: int, stop: int) -> None:
        self._part.size += stop - start
        if self._part.size <= self._max_part_bytes:
            self._part.content += data[start:stop]
        else:
            self._part.content.clear()

    def _end_part(self) -> None:
        self._whole.append(self._part)
        self._part = Part()

    def _end(self) -> None:
        self._ended = True
