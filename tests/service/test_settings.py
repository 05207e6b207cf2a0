"""What the environment may say, and what it is told when it says something else."""

import os

import pytest
from pydantic import ValidationError

from service.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CAPTION_"):
            monkeypatch.delenv(name)


def test_nothing_set_is_the_documented_default() -> None:
    settings = read_settings()
    assert (settings.host, settings.port, settings.model, settings.engine) == ("0.0.0.0", 8000, None, "auto")
    assert (settings.max_batch_size, settings.max_queue_size, settings.timeout_s) == (8, 128, 30)
    assert (settings.max_bytes, settings.max_pixels) == (20_000_000, 50_000_000)


def test_the_environment_is_read_and_an_empty_value_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_PORT", "9000")
    monkeypatch.setenv("CAPTION_MODEL", "")
    monkeypatch.setenv("CAPTION_ENGINE", "torch")
    settings = read_settings()
    assert (settings.port, settings.model, settings.engine) == (9000, None, "torch")


def test_sites_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert read_settings().cors_origins == ("https://a.example", "http://localhost:3000")
    monkeypatch.setenv("CAPTION_CORS_ORIGINS", "*")
    assert read_settings().cors_origins == ("*",)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("CAPTION_MAX_BATCHSIZE", "CAPTION_MAX_BATCH_SIZE"), ("CAPTION_MODELL", "CAPTION_MODEL")],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=rf"^{name} .* {nearest}$"):
        read_settings()


@pytest.mark.parametrize(
    "name",
    ["CAPTION_TEST_DATA", "CAPTION_SERVICE_SERVICE_HOST", "CAPTION_SERVICE_PORT", "CAPTION_SERVICE_PORT_80_TCP_ADDR"],
)
def test_variables_that_others_set_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CAPTION_PORT", "http"),
        ("CAPTION_PORT", "70000"),
        ("CAPTION_MAX_BATCH_SIZE", "0"),
        ("CAPTION_TIMEOUT_S", "-1"),
        ("CAPTION_ENGINE", "tensorflow"),
        ("CAPTION_RATE_LIMIT", "inf"),
        ("CAPTION_CORS_ORIGINS", "a.example"),
        ("CAPTION_CORS_ORIGINS", "https://a.example/path"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} is '{value}': [^\n]+$"):
        read_settings()


def test_settings_are_frozen_and_take_no_strangers() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]
