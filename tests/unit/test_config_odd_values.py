"""Whatever stands at a key, the answer is a configuration or one sentence with the key, and never a traceback."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dino4cells.config import SECTIONS, TRANSFORM_SECTIONS, load_config, parse_config
from dino4cells.config.values import TRANSFORM_NAMES
from dino4cells.errors import ConfigError

KEYS = [f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields]

_SCALARS = st.sampled_from(
    [
        *("", "~", "None", "null", "true", "no", "'True'", "0", "-1", "3", "7.5", "1e6", "1e999", "-1e-400", ".nan", "-.inf"),
        *("'1_000'", "0x1F", "1" * 400, "'0.2 0.5'", "'0.5 0.2 0.1'", "(0.2, 0.5)", "Image.BICUBIC", "InterpolationMode.NONE"),
        *("vit_tiny", "a b", "'a, b'", "é", "=", "<<", '"\\0"', "2024-01-02", "2024-01-02 03:04:05", "12:30:45"),
        *("!!binary aGVsbG8=", "!!str 3", "!!int '3'"),
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=3).map(lambda items: f"[{', '.join(item or '~' for item in items)}]"),
        st.dictionaries(st.sampled_from(["a", "1", "true", "~", "p", "size", "active", "? [a]"]), values, max_size=2).map(
            lambda items: "{" + ", ".join(f"{key}: {value or '~'}" for key, value in items.items()) + "}"
        ),
        st.just("!!set {a, b}"),
        st.just("!!omap [a: 1]"),
    ),
    max_leaves=4,
)


def _refusal(text: str) -> str:
    """What a file is refused with; nothing where it is read, and then printed and read again as the same."""
    try:
        config = parse_config(text)
    except ConfigError as error:
        return str(error)
    assert parse_config(config.to_yaml()) == config
    assert config.fingerprint() == parse_config(config.to_yaml()).fingerprint()
    return ""


def _read(text: str) -> None:
    refusal = _refusal(text)
    assert "\n" not in refusal
    assert not refusal or refusal.startswith("config.yaml, line ")


@pytest.mark.parametrize("key", KEYS)
def test_a_key_with_a_value_of_the_wrong_kind_is_refused_with_its_line(key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"config.yaml, line 3: {section}\.{name} must "):
        parse_config(f"{section}:\n\n  {name}: {{a: [1, {{b: c}}]}}")


@given(key=st.sampled_from([*KEYS, "model", "embedding", "classification", "preset", "local_crops_number", "pipeline"]), value=_VALUES)
@example(key="model.channels", value="[[a]]")
@example(key="model.local_crops_scale", value="[0.2, [0.5]]")
@example(key="model.image_mode", value="[a]")
@example(key="model.datatype", value="{a: 1}")
@settings(max_examples=150, deadline=None)
def test_any_value_at_any_key_is_read_or_refused_in_a_sentence(key: str, value: str) -> None:
    section, _, name = key.partition(".")
    _read(f"{section}:\n  {name}: {value}" if name else f"{section}: {value}")


@given(section=st.sampled_from(TRANSFORM_SECTIONS), name=st.sampled_from(TRANSFORM_NAMES), active=_VALUES, parameters=_VALUES)
@example(section="local_transfo", name="RandomResizedCrop", active="true", parameters="{scale: 2024-01-02}")
@example(section="normalization", name="Get_specific_channel", active="[[]]", parameters="")
@settings(max_examples=100, deadline=None)
def test_any_entry_of_a_transform_is_read_or_refused_in_a_sentence(section: str, name: str, active: str, parameters: str) -> None:
    _read(f"{section}:\n  {name}: [{active or '~'}, {parameters or '~'}]\nmodel:\n  local_crops_scale: 0.2 0.5")
    _read(f"{section}:\n  {name}: {active}\nmodel:\n  image_mode: normalized_4_channels\n  num_channels: 1")
    _read(f"{section}: {parameters}")


@given(text=st.text(st.sampled_from(" \n\t:-[]{}&*!|>'\"%@`#,?~a1.<="), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    assert "\n" not in _refusal(text)


def test_a_file_that_is_nested_without_end_is_refused_in_a_sentence() -> None:
    assert _refusal("model: " + "[" * 1200 + "]" * 1200) == "config.yaml is nested too deeply to be a configuration; close every bracket"
    assert _refusal("model:\n  root: " + "[" * 60 + "]" * 60).startswith("config.yaml, line 2: model.root.0.0")


@pytest.mark.parametrize(("key", "bound"), [("model.seed", 2**63), ("classification.seed", 2**32)])  # of torch, and of scikit-learn
def test_a_seed_that_no_generator_takes_is_refused(key: str, bound: int) -> None:
    section, name = key.split(".")
    assert getattr(load_config(overrides={key: bound - 1}), section).seed == bound - 1
    with pytest.raises(ConfigError, match=rf"option {section}\.{name} must be less than {bound}, not {bound}"):
        load_config(overrides={key: bound})
