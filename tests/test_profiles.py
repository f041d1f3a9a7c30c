"""Profiles: which cases are measured where."""

from __future__ import annotations

import itertools

import pytest

from mlx_velocity.probe import profiles, shapes

SHORTER = (
    profiles.MAIN_MODELS,
    profiles.LORA_MODELS,
    profiles.OPERATOR_MODELS,
    profiles.FULL_MODELS,
    profiles.QUANTIZED_MODELS,
)


def test_a_case_is_selected_when_every_named_parameter_has_an_allowed_value():
    """A case is in a profile when each parameter that the profile names has an allowed value."""
    assert profiles.selected("tiny", ("model", "tokens"), ("tiny-float32", 128))
    assert not profiles.selected("tiny", ("model", "tokens"), ("tiny-float32", 2048))
    assert not profiles.selected("tiny", ("model", "tokens"), ("llama-3.1-8b-4bit", 128))


def test_a_parameter_that_the_profile_does_not_name_is_free():
    """What a profile says nothing about, it does not restrict."""
    assert profiles.selected("tiny", ("module",), ("mlx_lm",))
    assert profiles.selected("tiny", (), ())


def test_all_selects_everything():
    """The profile `all` selects every case."""
    assert profiles.selected("all", ("model", "tokens"), ("llama-3.1-8b-4bit", 2048))


def test_an_unknown_profile_is_an_error():
    """An unknown profile is an error, never an empty selection."""
    with pytest.raises(KeyError):
        profiles.selected("huge", ("model",), ("tiny-float32",))


def test_the_environment_selects_and_tiny_is_the_fallback(monkeypatch):
    """MLX_VELOCITY_PROFILE selects; unset or empty means tiny; a wrong name is an error that lists the right ones."""
    monkeypatch.delenv(profiles.VARIABLE, raising=False)
    assert profiles.of_environment() == "tiny"
    monkeypatch.setenv(profiles.VARIABLE, "")
    assert profiles.of_environment() == "tiny"
    monkeypatch.setenv(profiles.VARIABLE, "standard")
    assert profiles.of_environment() == "standard"
    monkeypatch.setenv(profiles.VARIABLE, "huge")
    with pytest.raises(ValueError, match="huge is none of tiny, small"):
        profiles.of_environment()


def test_every_model_of_a_profile_exists():
    """Each model that a profile or a list names is a known shape with a known dtype."""
    for spec in (*profiles.allowed("model"), *profiles.allowed("moe"), *itertools.chain(*SHORTER)):
        shapes.split(str(spec))


@pytest.mark.parametrize("models", SHORTER)
def test_every_profile_has_one_of_the_shorter_lists(models):
    """No profile is left without defaults, memory and fine-tuning cases."""
    for name, allowed in profiles.PROFILES.items():
        assert name == "all" or set(models) & set(allowed["model"]), name


def test_allowed_values_come_once_and_in_order():
    """The union of the profiles keeps their order, so that a case's number does not wander."""
    assert profiles.allowed("tokens") == (32, 128, 512, 2048)
    assert profiles.allowed("depth") == (0, 256, 2048, 4096)
    assert profiles.allowed("rows") == (1, 32, 512)
    assert profiles.allowed("module") == ()
