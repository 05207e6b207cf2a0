"""What the README opens with, and that its links lead somewhere."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def test_readme_opens_with_the_two_commands_and_the_licence_of_the_weights() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    assert re.search(r"^make run\b", first_screen, flags=re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, flags=re.MULTILINE)
    assert "curl -F file=@" in first_screen
    assert "non-commercial research only" in first_screen


@pytest.mark.parametrize("name", ["README.md", "service/README.md", "trainer/README.md"])
def test_links_to_files_and_headings_lead_somewhere(name: str) -> None:
    page = PROJECT / name
    text = page.read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, heading = target.partition("#")
        if not path:
            assert heading in headings, target
        elif "://" not in path:
            assert (page.parent / path).exists(), target


def test_the_example_of_the_client_is_ten_lines_that_compile() -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    compile(example[1], "README.md", "exec")
    assert len(example[1].splitlines()) <= 11
