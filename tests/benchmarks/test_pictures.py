import io
from pathlib import Path

from PIL import Image

from tests.benchmarks.pictures import jpeg, write_pictures


def test_made_jpegs_have_the_size_of_a_camera_s_and_differ() -> None:
    made = [jpeg(seed) for seed in range(5)]
    assert len(set(made)) == 5
    assert all(60_000 < len(data) < 120_000 for data in made)
    assert {Image.open(io.BytesIO(data)).size for data in made} == {(640, 480)}
    assert Image.open(io.BytesIO(jpeg(1, 300, 500))).size == (300, 500)


def test_pictures_that_are_written_are_the_same_next_time(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_pictures(tmp_path, 3)]
    (tmp_path / "0001.jpg").unlink()
    assert [path.read_bytes() for path in write_pictures(tmp_path, 3)] == first
    assert len(write_pictures(tmp_path, 2)) == len(list(tmp_path.iterdir())) == 2
