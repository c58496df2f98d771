"""Schedules as functions of the samples seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from dino4cells.config import Config
from dino4cells.training.schedules import Cosine, Schedules


def test_cosine_has_its_values_at_the_start_the_end_of_the_warm_up_half_way_and_the_end() -> None:
    schedule = Cosine(1.0, 0.2, total=1000, warmup=200, warmup_start=0.1)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(100) == pytest.approx(0.55)
    assert schedule(200) == pytest.approx(1.0)
    assert schedule(600) == pytest.approx(0.6)
    assert schedule(1000) == pytest.approx(0.2)
    assert schedule(5000) == pytest.approx(0.2)


def test_cosine_equals_the_table_of_the_published_code() -> None:
    base, final, epochs, steps_per_epoch, warmup_epochs, batch = 0.5, 0.01, 5, 8, 2, 16
    warmup = warmup_epochs * steps_per_epoch
    rest = epochs * steps_per_epoch - warmup
    table = [base * step / warmup for step in range(warmup)]
    table += [final + 0.5 * (base - final) * (1 + math.cos(math.pi * step / rest)) for step in range(rest)]
    schedule = Cosine(base, final, total=epochs * steps_per_epoch * batch, warmup=warmup * batch)
    assert [schedule(step * batch) for step in range(len(table))] == pytest.approx(table)


def test_a_run_has_the_values_that_its_configuration_gives(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config(
        lr=0.001, min_lr=1e-6, warmup_epochs=2, epochs=10, momentum_teacher=0.9, weight_decay=0.04, weight_decay_end=0.4,
        warmup_teacher_temp=0.02, teacher_temp=0.05, warmup_teacher_temp_epochs=3, freeze_last_layer=1,
    )  # fmt: skip
    schedules = Schedules.from_config(config.model, samples_per_epoch=100, total=1000, batch_size=64)
    assert [schedules.lr(seen) for seen in (0, 200, 1000)] == pytest.approx([0, 0.001 * 64 / 256, 1e-6])
    assert [schedules.weight_decay(seen) for seen in (0, 500, 1000)] == pytest.approx([0.04, 0.22, 0.4])
    assert [schedules.momentum(seen) for seen in (0, 500, 1000)] == pytest.approx([0.9, 0.95, 1.0])
    assert [schedules.teacher_temperature(seen) for seen in (0, 150, 300, 1000)] == pytest.approx([0.02, 0.035, 0.05, 0.05])
    assert schedules.frozen == 100


def test_the_batch_changes_the_learning_rate_in_proportion_and_nothing_else(tiny_config: Callable[..., Config]) -> None:
    model = tiny_config(min_lr=0).model
    small, large = (Schedules.from_config(model, 100, 200, batch) for batch in (8, 32))
    for seen in (0, 32, 96, 192):
        assert large.lr(seen) == pytest.approx(4 * small.lr(seen))
        for name in ("weight_decay", "momentum", "teacher_temperature"):
            assert getattr(large, name)(seen) == getattr(small, name)(seen)
    assert large.frozen == small.frozen


def test_a_warm_up_longer_than_the_run_ends_half_way(tiny_config: Callable[..., Config]) -> None:
    schedules = Schedules.from_config(tiny_config(warmup_epochs=10, freeze_last_layer=10, lr=0.256).model, 100, total=200, batch_size=1)
    assert schedules.lr(100) == pytest.approx(0.001)
    assert schedules.lr(200) < schedules.lr(100)
    assert schedules.frozen == 100


def test_the_smallest_learning_rate_is_never_above_the_peak(tiny_config: Callable[..., Config]) -> None:
    schedules = Schedules.from_config(tiny_config(lr=1e-5, min_lr=1e-3, warmup_epochs=0).model, 100, total=200, batch_size=8)
    assert schedules.lr(200) <= schedules.lr(0)
