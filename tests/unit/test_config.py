"""The handbook's configuration: what a user's file may hold, and what each mistake in it is answered with."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dino4cells.config import SECTIONS, TRANSFORM_SECTIONS, Config, EmbeddingConfig, ModelConfig
from dino4cells.config.file import load_config, parse_config, preset_names
from dino4cells.config.model import IMAGE_MODES
from dino4cells.config.values import TRANSFORM_NAMES
from dino4cells.errors import ConfigError, StorageError

# The shape of the published file: one blank before everything, repeated keys and sections, text that stands for values, empty keys.
HANDBOOK_SHAPED = """\
---
 model:
   model_type: DINO
   arch: deit_small
   root:
   data_path: cells.csv
   lr: 5e-4
   epochs: '12'
   local_crops_scale: '0.2 0.5'
   sample_single_cells: False

 embedding:
   num_augmentation_repetitions: 0
   target_labels: False

 classification:
   train_path: somewhere/train.pth
   balance: True
   balance: False
   competition_type: whole_images

 visualize:
   image_path: cell.png
 pipeline:
   run_DINO: false

 normalization:
   Get_specific_channel: # nucleus
    - False
    - {c: 0}
   Get_specific_channel: # protein
    - False
    - {c: 1}
   ToTensor:
    - True
    - # no params
   self_normalize: [True]
 global_transfo1:
   Warp_cell: [True]
   Warp_cell: [True]
 local_transfo:
   RandomResizedCrop:
    - True
    - {size: 96, scale: [0.05, 0.4]}
   RandomResizedCenterCrop:
    - True
    - {size: 96, scale: [0.2, 0.5], depth: 1e6, s: 0.7, interpolation: Image.BICUBIC}

 global_transfo1:
   Warp_cell:
    - False
    - # no params
   RandomResizedCrop: [True, {size: 224, scale: '0.4 1'}]
"""


def test_a_file_of_the_handbooks_shape_is_understood() -> None:
    config = parse_config(HANDBOOK_SHAPED)

    assert config.model.arch == "vit_small"
    assert config.model.root is None
    assert config.model.lr == 5e-4
    assert config.model.epochs == 12
    assert config.model.local_crops_scale == (0.05, 0.4)
    assert config.model.sample_single_cells is False
    assert config.embedding.num_augmentation_repetitions == 0
    assert config.embedding.target_labels is False
    assert config.classification.train_path == "somewhere/train.pth"
    assert config.classification.balance is False
    assert config.section("normalization") == [("ToTensor", None), ("self_normalize", None)]
    assert config.normalization["Get_specific_channel"].parameters == {"c": 1}
    assert config.section("global_transfo1") == [("RandomResizedCrop", {"size": 224, "scale": [0.4, 1]})]
    center_crop = dict(config.section("local_transfo"))["RandomResizedCenterCrop"]
    assert center_crop == {"size": 96, "scale": [0.2, 0.5], "depth": 1_000_000, "s": 0.7, "interpolation": "bicubic"}


def test_everything_in_that_file_that_is_not_used_is_told_once_with_its_line() -> None:
    warnings = parse_config(HANDBOOK_SHAPED, "mine.yaml").warnings

    assert [warning.split(";")[0] for warning in warnings] == [
        "mine.yaml, line 49: global_transfo1 is given again after line 38",  # and no word on what the first one repeats inside
        "mine.yaml, line 19: classification.balance is given again after line 18",
        "mine.yaml, line 31: normalization.Get_specific_channel is given again after line 28",
        "mine.yaml, line 22: sections that steered the paper's own scripts are not used here: visualize, pipeline",
        "mine.yaml, line 20: keys of classification that steered the paper's own scripts are not used here: competition_type",
        "mine.yaml, line 9: model.local_crops_scale (0.2, 0.5) is not used, since local_transfo.RandomResizedCrop has the scale "
        "(0.05, 0.4) (mine.yaml, line 44)",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model:\n  epochs: -3", "line 2: model.epochs must be at least 1, not -3; correct it, or leave the key out for 100"),
        ("model:\n\n  lr: fast", "config.yaml, line 3: model.lr must be a number, not 'fast'"),
        ("model:\n  lr: 0", "config.yaml, line 2: model.lr must be greater than 0, not 0"),
        ("model:\n  lr: .inf", "config.yaml, line 2: model.lr must be a finite number, not inf"),
        ("model:\n  epochs: 1.5", "line 2: model.epochs must be a whole number, not 1.5"),
        ("model:\n  epochs: True", "config.yaml, line 2: model.epochs must be a number, not True"),
        ("model:\n  drop_path_rate: 1", "line 2: model.drop_path_rate must be less than 1, not 1"),
        ("model:\n  max_bad_images: 5", "line 2: model.max_bad_images must be at most 1, not 5"),
        ("model:\n  norm_last_layer: maybe", "line 2: model.norm_last_layer must be true or false, not 'maybe'"),
        ("model:\n  root: [a]", "config.yaml, line 2: model.root must be a text, not ['a']"),
        ("model:\n  channels: {a: b}", "line 2: model.channels must be a list, not {'a': 'b'}"),
        ("model:\n  channels: [DNA, NO]", "line 2: model.channels must have its names in quotes"),
        ("model:\n  channels: DNA, DNA", "line 2: model.channels must name each channel once"),
        ("model:\n  num_channels: 3\n  channels: DNA, ER", "line 3: model.channels must have as many names as num_channels says (3)"),
        ("model:\n  arch: vit_tinny", "not 'vit_tinny'; did you mean vit_tiny?"),
        ("model:\n  patch_size: 7", "line 2: model.patch_size must be one of 8 or 16, not 7"),
        ("model:\n  image_size: 100", "line 2: model.image_size must be a multiple of patch_size (16), not 100"),
        ("model:\n  image_mode: normalised", "not 'normalised'; did you mean normalized?"),
        ("model:\n  local_crops_scale: '0.2'", "line 2: model.local_crops_scale must be two numbers such as '0.2 0.5', not '0.2'"),
        ("model:\n  local_crops_scale: '0.5 0.2'", "line 2: model.local_crops_scale must be two fractions, the smaller first"),
        ("embedding:\n  target_labels: True", "line 2: embedding.target_labels must be false or a list of column names"),
        ("classification:\n  folds: 1", "line 2: classification.folds must be at least 2, not 1"),
        ("local_crops_number: many", "line 1: local_crops_number must be a whole number, not 'many'"),
        ("model:\n  epochs: 0\n  lr: -1", "(also wrong: model.lr)"),
        ("normalization:\n  ToTensr: [True]", "line 2: normalization.ToTensr is no transform that is known here; did you mean ToTensor?"),
        ("normalization:\n  ToTensor:", "line 2: normalization.ToTensor must be a list of two"),
        ("normalization:\n  ToTensor: [1, 2, 3]", "line 2: normalization.ToTensor must be a list of two"),
        ("normalization:\n  ToTensor: [maybe]", "line 2: normalization.ToTensor must be true or false, not 'maybe'"),
        ("normalization:\n  ToTensor: [True, 3]", "line 2: normalization.ToTensor must have parameters that are a mapping, a list or"),
        ("normalization:\n  - ToTensor", "line 1: normalization must be a mapping of keys"),
        ("model: 3", "config.yaml, line 1: model must be a mapping of keys, not 3"),
        ("preset: smal", "line 1: there is no preset 'smal'; choose one of handbook, small, small-fluorescence, none"),
        ("model:\n\tlr: 3", "config.yaml, line 2: this is no valid YAML"),
        ("model:\n  lr: [1", "config.yaml, line 2: this is no valid YAML"),
        (" model:\n   lr: 3\npreset: small", "line 3: this line is indented less than the keys above it"),
        ("model: {}\n---\nmodel: {}", "line 2: this cannot be read as one configuration"),
        ("model: !!python/object:os.system 1", "config.yaml, line 1: this value cannot be read"),
        ("model: &m {root: *m}", "line 1: model.root contains itself through an alias"),
        ("model:\n  root: 2024-13-45", "line 2: model.root cannot be read (month must be in 1..12); put the value in quotes"),
        ("- model", "config.yaml holds no keys such as `model:` at its top level"),
        ("\x00", "config.yaml is no text file in YAML"),
    ],
)
def test_a_wrong_value_is_told_with_file_line_and_key(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("model:\n  epoch: 3", "line 2: model.epoch is not known and not used; did you mean epochs?"),
        ("model:\n  folds: 3", "line 2: model.folds is not known and not used; did you mean classification.folds?"),
        ("embeding: {}", "line 1: embeding is not known and not used; did you mean embedding?"),
        ("epochs: 3", "line 1: epochs is not known and not used; did you mean model.epochs or classification.epochs?"),
        ("qwertz: 3", "config.yaml, line 1: qwertz is not known and not used"),
        ("testing_transfo:\n  My_dihedral: [False]", "line 2: testing_transfo.My_dihedral is no known transform; it is switched"),
    ],
)
def test_an_unknown_key_is_a_warning_with_a_suggestion(text: str, warning: str) -> None:
    [told] = parse_config(text).warnings
    assert warning in told


def test_the_last_of_a_repeated_key_wins_and_both_lines_are_told() -> None:
    config = parse_config("model:\n  epochs: 1\n  lr: 0.1\n  epochs: 2\n  epochs: 3")
    assert config.model.epochs == 3
    assert config.warnings == ["config.yaml, line 5: model.epochs is given again after lines 2, 4; the last one is used"]


@pytest.mark.parametrize("empty", ["", "''", "None", "~", "null"])
def test_an_empty_key_means_its_default(empty: str) -> None:
    config = parse_config(f"model:\n  epochs: {empty}\n  root: {empty}\nclassification: {empty}", preset="none")
    assert config == Config()


def test_text_stands_for_booleans_and_lists() -> None:
    config = parse_config("model:\n  sample_single_cells: 'True'\n  channels: [488, DNA]\nembedding:\n  target_labels: Golgi, Nucleus")
    assert config.model.sample_single_cells is True
    assert config.model.channels == ["488", "DNA"]
    assert config.embedding.target_labels == ["Golgi", "Nucleus"]


def test_anchors_and_merge_keys_work() -> None:
    config = parse_config("normalization: &last\n  ToTensor: [True]\ntesting_transfo:\n  <<: *last\n  self_normalize: [True]")
    assert config.section("testing_transfo") == [("ToTensor", None), ("self_normalize", None)]
    assert config.warnings == []


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_without_warnings_and_print_as_files_that_say_the_same(name: str) -> None:
    config = load_config(preset=name)
    assert config.warnings == []
    again = parse_config(config.to_yaml())
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert again.warnings == []


def test_the_handbook_preset_has_two_global_and_eight_local_crops_with_the_published_sizes() -> None:
    config = load_config()
    assert dict(config.section("global_transfo1"))["RandomResizedCrop"] == {"size": 224, "scale": [0.4, 1]}
    assert dict(config.section("global_transfo2"))["RandomResizedCrop"] == {"size": 224, "scale": [0.4, 1]}
    assert dict(config.section("local_transfo"))["RandomResizedCrop"] == {"size": 96, "scale": [0.05, 0.4]}
    assert config.local_crops_number == 8
    assert config.model == ModelConfig()


def test_the_file_wins_over_its_preset_key_by_key_and_section_by_section() -> None:
    config = parse_config("preset: small\nmodel:\n  epochs: 7\nlocal_transfo:\n  Warp_cell: [True]\nlocal_aug:")
    preset = load_config(preset="small")
    assert config.model == preset.model.model_copy(update={"epochs": 7})
    assert config.section("local_transfo") == [("Warp_cell", None)]
    assert config.section("global_transfo1") == preset.section("global_transfo1")


def test_a_preset_that_is_asked_for_wins_over_the_one_that_the_file_names() -> None:
    assert parse_config("preset: small", preset="handbook") == load_config(preset="handbook")
    with pytest.raises(ConfigError, match="there is no preset 'tiny'; choose one of handbook, small, small-fluorescence, none"):
        load_config(preset="tiny")


def test_options_win_over_the_file() -> None:
    config = parse_config(
        "model:\n  epochs: 7\n  lr: 0.1\nclassification:\n  group: plate",
        overrides={
            "epochs": "3",
            "--out-dim": 128,
            "model.image_size": 64,
            "lr": "None",
            "group": "",
            "seed_of_nothing": None,
            "local_crops_number": 2,
            "global_transfo1.RandomResizedCrop.size": "64",
            "global_transfo1.Warp_cell": False,
            "global_transfo2.Jigsaw": "[True, {p: 0.1}]",
        },
    )
    assert (config.model.epochs, config.model.out_dim, config.model.image_size, config.model.lr) == (3, 128, 64, ModelConfig().lr)
    assert config.classification.group == "plate"
    assert config.local_crops_number == 2
    assert config.section("global_transfo1") == [("RandomResizedCrop", {"size": 64, "scale": [0.4, 1]})]
    assert config.section("global_transfo2")[-1] == ("Jigsaw", {"p": 0.1})
    assert config.warnings == []


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("epochs", 0, "option epochs: model.epochs must be at least 1, not 0"),
        ("model.epochs", 0, "option model.epochs must be at least 1, not 0"),
        ("epoch", 1, "option epoch: the configuration has no such key; did you mean model.epochs?"),
        ("modle.epochs", 1, "option modle.epochs: the configuration has no such key; did you mean model.epochs?"),
        ("qwertz", 1, "option qwertz: the configuration has no such key; `dino4cells config` shows all"),
        ("neighbours", 0, "option neighbours: classification.neighbours must be at least 1, not 0"),
        ("local_transfo.Warpcell", True, "option local_transfo.Warpcell: Warpcell is no transform that is"),
        ("local_transfo.RandomResizedCrop", "big", "option local_transfo.RandomResizedCrop must be a list of two"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(option: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load_config(overrides={option: value})


def test_local_crops_scale_fills_in_where_the_users_section_gives_no_scale() -> None:
    silent = parse_config("model:\n  local_crops_scale: '0.2 0.5'\nlocal_transfo:\n  RandomResizedCrop: [True, {size: 96}]")
    by_position = parse_config("model:\n  local_crops_scale: 0.2, 0.5\nlocal_transfo:\n  RandomResizedCrop: [True, [96]]")
    from_preset = load_config(overrides={"local_crops_scale": "0.2 0.5"})
    by_option = load_config(overrides={"local_crops_scale": "0.2 0.5", "local_transfo.RandomResizedCrop.scale": "0.1 0.2"})

    assert silent.section("local_transfo") == [("RandomResizedCrop", {"size": 96, "scale": [0.2, 0.5]})]
    assert by_position.section("local_transfo") == [("RandomResizedCrop", [96, [0.2, 0.5]])]
    assert dict(from_preset.section("local_transfo"))["RandomResizedCrop"] == {"size": 96, "scale": [0.2, 0.5]}
    assert silent.warnings == by_position.warnings == from_preset.warnings == []
    assert dict(by_option.section("local_transfo"))["RandomResizedCrop"] == {"size": 96, "scale": [0.1, 0.2]}
    assert len(by_option.warnings) == 1


def test_the_fingerprint_changes_with_what_is_learnt_and_not_with_where_it_runs() -> None:
    config = load_config()
    elsewhere = {
        **{"root": "a", "data_path": "b", "output_dir": "c", "file_pattern": "{file}_{channel}.tif", "num_channels": 4},
        **{"model.num_workers": 1, "embedding.batch_size": 1, "group": "plate"},
    }
    assert load_config(overrides=elsewhere).fingerprint() == config.fingerprint()
    assert load_config(overrides={"local_transfo.Jigsaw": "[False, {p: 1}]"}).fingerprint() == config.fingerprint()
    learnt = {"lr": 0.1, "local_crops_number": 2, "model.seed": 1, "init": "dino.pth", "mask": "apply", "local_transfo.Jigsaw": True}
    for key, value in learnt.items():
        assert load_config(overrides={key: value}).fingerprint() != config.fingerprint()


def test_a_file_is_read_by_path_and_named_in_messages(tmp_path: object) -> None:
    path = f"{tmp_path}/mine.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\ufeffmodel:\n  epochs: 0\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}, line 2: model.epochs")):
        load_config(path)
    with pytest.raises(StorageError):
        load_config(f"{tmp_path}/other.yaml")


def test_a_configuration_travels_to_another_process_with_its_warnings() -> None:
    config = parse_config("qwertz: 1")
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.warnings == config.warnings != []


def test_every_key_has_a_line_of_help() -> None:
    models: list[type[BaseModel]] = [Config, *SECTIONS.values()]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name
            assert "\n" not in field.description


def test_sections_are_asked_for_by_their_handbook_names() -> None:
    assert load_config().section("local_aug") == []
    with pytest.raises(KeyError):
        load_config().section("model")


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12)
_PATHS = st.none() | _WORDS
_SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | _WORDS
_CHOICES = st.tuples(st.booleans(), st.none() | st.dictionaries(_WORDS, _SCALARS | st.lists(_SCALARS)) | st.lists(_SCALARS))
_MODELS = st.fixed_dictionaries(
    {},
    optional={
        "root": _PATHS,
        "output_dir": _PATHS,
        "image_mode": st.sampled_from(IMAGE_MODES),
        "patch_size": st.sampled_from([8, 16, "8"]),
        "channels": st.none() | st.lists(_WORDS, unique_by=str.strip, max_size=5),
        "epochs": st.integers(1, 10**6),
        "lr": st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.just("1e-3"),
        "clip_grad": st.floats(min_value=0, allow_infinity=False),
        "norm_last_layer": st.booleans(),
        "targets": st.sampled_from(["centering", "sinkhorn"]),
    },
)


@given(
    model=_MODELS,
    labels=st.just(False) | st.lists(_WORDS),
    sections=st.dictionaries(st.sampled_from(TRANSFORM_SECTIONS), st.dictionaries(st.sampled_from(TRANSFORM_NAMES), _CHOICES, max_size=4)),
)
@settings(max_examples=40, deadline=None)
def test_a_printed_configuration_reads_back_equal(model: dict[str, object], labels: object, sections: dict[str, object]) -> None:
    config = Config(model=ModelConfig(**model), embedding=EmbeddingConfig(target_labels=labels), **sections)
    again = parse_config(config.to_yaml())
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert [list(getattr(again, name)) for name in TRANSFORM_SECTIONS] == [list(getattr(config, name)) for name in TRANSFORM_SECTIONS]
