"""What commands print in a terminal of 80 columns and in a wide one: names beside their numbers, numbers unbroken, commands whole."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dino4cells.classify import summary
from dino4cells.classify.baselines import GUESSING, PROBE
from dino4cells.cli import data, doctor, job
from dino4cells.cluster.doctor import Row, State
from dino4cells.cluster.status import JobStatus, PodStatus
from dino4cells.data.findings import Findings, LabelColumn, Problem, Span

CLASSES = {"Nucleoplasm": 12_345, "Endoplasmic reticulum": 9210, "Nucleoli fibrillar center": 1200, "Golgi apparatus": 7}
LINES = {f"cell line {number}": 1000 * (17 - number) for number in range(16)}
APPLY = 'kubectl apply --server-side -k "github.com/kubeflow/training-operator.git/manifests/overlays/standalone?ref=v1.9.4"'
REASON = "0/12 nodes are available: 12 Insufficient nvidia.com/gpu. preemption: 0/12 nodes are available: no victims"
NODE = "gpu-node-17.cluster.example.org"


@pytest.fixture(params=[80, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of so many columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()]


def test_data_validate_keeps_the_name_of_a_class_beside_its_number(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    span = Span(least=40, median=64, most=512)
    unreadable = f"cell 3, {'images/' * 20}3.png: truncated"
    problem = Problem(kind="unreadable", count=1, meaning="their files are no images", examples=[unreadable])
    labels = [LabelColumn(name="protein_location", classes=CLASSES, empty=4), LabelColumn(name="cell_type", classes=LINES, empty=0)]
    findings = Findings(
        data="cells/metadata.csv", rows=22_762, readable=22_761, channel_names=["DNA", "ER"], channels={2: 22_761}, heights=span,
        widths=span, distinct_sizes=321, kinds={"PNG, 8 bits": 22_761}, constant_channels={}, labels=labels,
        binary_labels={"actin filaments,focal adhesion sites": 12}, problems=[problem], seconds=1.0, images_per_second=1.0,
    )  # fmt: skip
    data._show(findings)
    lines = printed(capsys)
    for name, count in {**CLASSES, **LINES, **findings.binary_labels, "empty": 4}.items():
        assert any(f"{name} {count:,}" in line for line in lines), name
    assert unreadable in [line.strip() for line in lines]
    assert max(len(line) for line in lines if unreadable not in line) <= width
    if width == 200:
        assert any("Nucleoplasm 12,345" in line and "Golgi apparatus 7" in line for line in lines)


def test_doctor_prints_what_to_do_in_a_line_that_can_be_copied(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("API server", State.OK, "answers: Kubernetes 1.33", ""),
        Row("Training Operator", State.MISSING, "the API server knows no pytorchjobs.kubeflow.org", APPLY),
    ]
    doctor._print_table(rows)
    lines = printed(capsys)
    assert f"Training Operator: {APPLY}" in lines
    assert max(len(line) for line in lines if APPLY not in line) <= width
    assert any("pytorchjobs.kubeflow.org" in line for line in lines)
    assert lines[-1] == "1 ok, 0 warning, 1 missing, 0 not checked"


def test_job_status_keeps_names_of_nodes_whole_and_tells_why_a_pod_waits(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    pods = (
        PodStatus(name="a", place="master-0", state="Running", node=NODE, restarts=0, reason=""),
        PodStatus(name="b", place="worker-0", state="Pending", node="", restarts=3, reason=REASON),
    )
    job._print_status(
        JobStatus("train-0a1b2c3d4e", "biology", "waiting", "for GPUs", "2026-11-26T11:43:27Z", REASON, "epoch 11.4/20", pods)
    )
    lines = printed(capsys)
    assert max(map(len, lines)) <= width
    assert any(NODE in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert text.count(REASON) == 2
    assert f"worker-0: {REASON}" in text


def test_scores_of_a_head_are_never_broken(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in summary.TITLES if name not in ("accuracy", "balanced_accuracy")]
    scores, intervals = dict.fromkeys(names, 0.8234), {name: [0.79, 0.85] for name in names}
    of_class = {"precision": 0.8, "recall": 0.7, "f1": 0.75, "f1_interval": [0.72, 0.78]}
    of_class |= {"average_precision": 0.9, "average_precision_interval": [0.87, 0.93]}
    baselines = {GUESSING: {"scores": scores, "intervals": {}}, PROBE: {"scores": scores, "intervals": intervals}}
    metrics: dict[str, Any] = {
        "classes": list(CLASSES), "split": "groups = plate never straddle", "epochs": 100.0, "kept_epoch": 61.0,
        "scores": {"train": scores, "test": scores}, "intervals": {"train": intervals, "test": intervals},
        "judged": {"train": 100_000, "test": 12_000}, "baselines": {"test": baselines}, "differences": {},
        "by_class": {"test": [{"class": name, "cells": count, **of_class} for name, count in CLASSES.items()]},
        "resampled": {"test": "3 values of plate"}, "warnings": [],
    }  # fmt: skip
    monkeypatch.setattr(summary, "scores_of", lambda _: metrics)
    summary.print_scores("head")
    lines = printed(capsys)
    assert max(map(len, lines)) <= width
    assert sum(line.count("[0.79, 0.85]") for line in lines) == 3 * len(names)
    assert any(line.startswith("train, 100,000") and line.count("0.823") == len(names) for line in lines)
    assert sum("0.750 [0.72, 0.78]" in line and "0.900 [0.87, 0.93]" in line for line in lines) == len(CLASSES)
    assert not any("…" in line for line in lines)
