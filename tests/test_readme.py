"""What the README says about settings must be what the settings are."""

import re
from pathlib import Path

from service.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_table_of_settings_is_whole_and_tells_the_defaults() -> None:
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\|", README, flags=re.MULTILINE))
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    assert set(table) == set(defaults)
    for name, default in defaults.items():
        told = table[name]
        if isinstance(default, bool):
            assert told == str(default).lower(), name
        else:
            assert told == "" if default is None else type(default)(told) == default, name


def test_readme_opens_with_the_two_commands_and_the_licence_of_the_weights() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    assert re.search(r"^make run\b", first_screen, flags=re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, flags=re.MULTILINE)
    assert "curl -F file=@" in first_screen
    assert "non-commercial research only" in first_screen
