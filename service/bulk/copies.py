"""A folder of copies that carry their captions; no original is ever written to."""

import os
from collections.abc import Iterable
from pathlib import Path

from service.bulk.descriptions import DescriptionError, write_described_copy
from service.bulk.files import Picture
from service.bulk.output import OutputError
from service.bulk.rows import Row


class Copies:
    """A folder of copies, laid out as the originals are."""

    def __init__(self, folder: Path, source: Path, pictures: Iterable[Picture]) -> None:
        self._folder, self._base = folder, source if source.is_dir() else None
        self._originals = {os.path.realpath(picture.location) for picture in pictures}
        inside, outside = (folder.resolve(), source.resolve()) if self._base else (None, None)
        if inside and outside and (inside == outside or inside in outside.parents or outside in inside.parents):
            raise OutputError(f"--copies is {folder}, and the originals are in {source}; neither may hold the other")

    def finish(self, picture: Picture, row: Row) -> Row:
        """Writes the copy; the row tells if that fails."""
        name = os.path.relpath(picture.location, self._base) if self._base else picture.location
        copy = self._folder / os.path.normpath("/" + name).lstrip("/")
        try:
            if str(copy.parent.resolve() / copy.name) in self._originals:
                raise DescriptionError(f"the copy would take the place of an original, {copy}")
            write_described_copy(Path(picture.location), copy, row.caption or "")
        except (DescriptionError, OSError) as error:
            return row._replace(error_code="no_copy", error_message=" ".join(str(error).split()))
        return row
