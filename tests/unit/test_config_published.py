"""Files of the structure and with the quirks of the published ones (`published_configs/`) are read as they are meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino4cells.augment.registry import check_transforms
from dino4cells.config import TRANSFORM_SECTIONS, Config, load_config, parse_config
from dino4cells.errors import ConfigError

FILES = Path(__file__).parent / "published_configs"
PATHS = sorted(FILES.glob("*.yaml"))


def _active(config: Config) -> dict[str, list[str]]:
    return {name: [transform for transform, _ in config.section(name)] for name in TRANSFORM_SECTIONS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_published_file_is_printed_as_one_without_quirks_that_says_the_same(path: Path) -> None:
    config = load_config(str(path))
    again = parse_config(config.to_yaml())
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert again.warnings == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_active_transform_of_a_published_file_can_be_built(path: Path) -> None:
    check_transforms(load_config(str(path)))


def test_a_wrong_parameter_is_told_with_its_line_and_what_is_accepted() -> None:
    text = (FILES / "cell_painting.yaml").read_text(encoding="utf-8").replace("{size: 64, scale: [0.05, 0.4]}", "{size: 64, scal: 0.4}")
    with pytest.raises(ConfigError) as refused:
        check_transforms(parse_config(text, "mine.yaml"))
    line = 1 + next(number for number, line in enumerate(text.splitlines()) if "scal: 0.4" in line)
    assert str(refused.value).startswith(f"mine.yaml, line {line}: local_transfo.RandomResizedCrop.scal")
    assert "did you mean scale?" in str(refused.value)
    assert "size (" in str(refused.value)


def test_a_wrong_parameter_of_an_option_is_told_by_the_option() -> None:
    with pytest.raises(ConfigError, match=r"^option global_transfo1\.RandomResizedCrop\.siz: .* did you mean size\?"):
        check_transforms(load_config(overrides={"global_transfo1.RandomResizedCrop.siz": 3}))


def test_the_last_of_the_repeated_sections_of_the_single_cells_file_counts() -> None:
    config = load_config(str(FILES / "hpa_single_cells.yaml"))

    assert _active(config) == {
        "flip_and_color_jitter_transforms": ["RandomHorizontalFlip", "RandomVerticalFlip", "Change_brightness", "Change_contrast"],
        "normalization": ["ToTensor", "self_normalize"],
        "global_transfo1": ["Warp_cell", "RandomResizedCrop"],
        "global_aug1": [],
        "global_transfo2": ["remove_channel", "RandomResizedCrop"],
        "global_aug2": [],
        "local_transfo": ["remove_channel", "RandomResizedCrop"],
        "local_aug": [],
        "testing_transfo": ["ToTensor", "self_normalize"],
    }
    assert dict(config.section("global_transfo1"))["RandomResizedCrop"] == {"size": 224, "scale": [0.4, 1]}
    assert dict(config.section("local_transfo")) == {
        "remove_channel": {"p": 0.25},
        "RandomResizedCrop": {"size": 96, "scale": [0.05, 0.4]},
    }
    assert config.local_transfo["RandomResizedCenterCrop"].parameters == {"size": 96, "scale": [0.2, 0.5], "depth": 1e6, "s": 0.7}
    assert config.local_crops_number == 8


def test_the_keys_of_the_single_cells_file_are_read_and_those_that_it_omits_have_the_originals_defaults() -> None:
    config = load_config(str(FILES / "hpa_single_cells.yaml"))

    model = config.model
    assert (model.arch, model.root, model.data_path, model.num_channels, model.image_mode) == (
        "vit_tiny",
        None,
        "cells/metadata.csv",
        4,
        "normalized_4_channels",
    )
    assert (model.epochs, model.batch_size_per_gpu, model.saveckp_freq, model.lr) == (12, 16, 25, 4e-4)
    assert (model.momentum_teacher, model.center_momentum, model.local_crops_scale) == (0.994, 0.91, (0.05, 0.4))
    assert (model.out_dim, model.norm_last_layer, model.use_bn_in_head, model.drop_path_rate) == (65536, True, False, 0.1)
    assert (model.warmup_teacher_temp, model.teacher_temp, model.warmup_teacher_temp_epochs, model.student_temp) == (0.04, 0.04, 0, 0.1)
    assert (model.weight_decay, model.weight_decay_end, model.clip_grad, model.freeze_last_layer) == (0.04, 0.4, 3.0, 1)
    assert (model.warmup_epochs, model.min_lr, model.optimizer, model.seed, model.num_workers) == (10, 1e-6, "adamw", 0, 10)
    assert (config.embedding.pretrained_weights, config.embedding.output_path) == ("output/checkpoint.pth", "cells/features.pth")
    assert (config.embedding.embedding_has_labels, config.embedding.target_labels, config.embedding.num_workers) == (True, False, 0)
    judged = config.classification
    assert (judged.min_lr, judged.epochs, judged.dropout, judged.num_classes, judged.n_units) == (1e-6, 90, 0.4, 19, 512)
    assert (judged.train_protein, judged.train_cell_type, judged.feature_extractor_state_dict) == (True, False, None)


def test_every_quirk_of_the_single_cells_file_is_told_with_its_lines() -> None:
    assert [warning.partition(", line ")[2] for warning in load_config(str(FILES / "hpa_single_cells.yaml")).warnings] == [
        "324: keys are given again, and the last of each is used: global_transfo1 (lines 146, 324), global_aug1 (lines 180, 353), "
        "testing_transfo (lines 193, 367), global_transfo2 (lines 231, 406), global_aug2 (lines 265, 435), "
        "local_crops_number (lines 279, 451), local_transfo (lines 280, 452), local_aug (lines 314, 481)",
        "81: classification.balance is given again after line 73; the last one is used",
        "133: normalization.Get_specific_channel is given again after lines 124, 127, 130; the last one is used",
        "392: testing_transfo.Get_specific_channel is given again after lines 383, 386, 389; the last one is used",
        "31: sections that steered the paper's own scripts are not used here: plot_embedding, kaggle_test_data, visualize, pipeline",
        "50: keys of classification that steered the paper's own scripts are not used here: whole_image_submission_file, competition_type, "
        "prepare_kaggle_submission, protein_classifier, cell_type_classifier, train_statistics, protein_task, "
        "use_pretrained_cell_type_classifier, use_pretrained_repro_classifier, averaged_features, training_features_paths_list, verbose",
        "13: model.num_channels is 5, and model.image_mode normalized_4_channels gives 4 "
        f"({FILES}/hpa_single_cells.yaml, line 10); 4 is used",
        "20: model.local_crops_scale (0.2, 0.5) is not used, since local_transfo.RandomResizedCrop has the scale (0.05, 0.4) "
        f"({FILES}/hpa_single_cells.yaml, line 476); make them agree, or delete one",
    ]


def test_the_cell_painting_file_has_the_originals_defaults_for_what_it_omits() -> None:
    config = load_config(str(FILES / "cell_painting.yaml"))

    model = config.model
    assert (model.datatype, model.num_channels, model.mask) == ("CellPainting", 5, "drop")
    assert (model.lr, model.momentum_teacher, model.center_momentum, model.sample_single_cells) == (5e-4, 0.996, 0.9, False)
    assert (model.image_size, config.embedding.image_size) == (128, 128)
    assert config.embedding.target_labels is False
    assert (config.classification.classifier_type, config.classification.loss) == ("simple_clf", "BCELoss")
    assert _active(config)["global_transfo1"] == ["Single_cell_Resize", "remove_channel", "rescale_protein", "RandomResizedCrop"]
    assert _active(config)["testing_transfo"] == ["Single_cell_Resize", "ToTensor", "self_normalize"]
    assert dict(config.section("local_transfo"))["RandomResizedCrop"] == {"size": 64, "scale": [0.05, 0.4]}
    assert not any("scale" in warning or "not known" in warning for warning in config.warnings)


def test_the_extraction_key_of_the_papers_later_files_is_understood() -> None:
    assert parse_config("embedding:\n  batch_size_per_gpu: 48").embedding.batch_size == 48
    assert load_config(overrides={"embedding.batch_size_per_gpu": 48}).embedding.batch_size == 48
    with pytest.raises(ConfigError, match=r"line 2: embedding\.batch_size must be a whole number, not 'none'"):
        parse_config("embedding:\n  batch_size_per_gpu: none")
