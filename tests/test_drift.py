"""Whatever is shown and no longer follows from what it was made of is found, with how much and the likely cause."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pieces import swap_pieces

from seechat.foundation.files import write_csv, write_json
from seechat.foundation.provenance import provenance
from seechat.presets import experiments
from seechat.reporting import drift

NAME = "systems/seechat-llama"
KEPT = ("experiment.yaml", "provenance.json", "metrics.csv", "outcomes.parquet", "steps.parquet", "tokenizer.json")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A committed experiment without its weights, made on this machine with this lock."""
    here, source = tmp_path / NAME, experiments() / NAME
    here.mkdir(parents=True)
    for name in KEPT:
        shutil.copy(source / name, here)
    shutil.copytree(source / "figures", here / "figures")
    made = json.loads((here / "provenance.json").read_text())
    now = provenance()
    write_json(here / "provenance.json", made | {key: now[key] for key in ("lock", "commit", "machine")})
    return here


def made(folder: Path, **changes: object) -> dict:
    return json.loads((folder / "provenance.json").read_text()) | changes


ELSEWHERE = {"cpu": "another processor", "gpus": None}


def test_a_changed_spec_is_found(folder):
    assert drift.spec(folder, NAME, made(folder)).ok
    path = folder / "experiment.yaml"
    path.write_text(path.read_text().replace("seeds: [0]", "seeds: [1]"))
    assert "spec: run it again" in str(drift.spec(folder, NAME, made(folder)))


def test_an_edited_share_is_found_with_its_size(folder):
    assert drift.metrics(folder, NAME).ok
    table = pd.read_csv(folder / "metrics.csv")
    table.loc[3, "value"] += 0.25
    write_csv(folder / "metrics.csv", table)
    finding = drift.metrics(folder, NAME)
    assert not finding.ok and f"1 of {len(table)} shares" in finding.detail and "by 0.25" in finding.detail
    write_csv(folder / "metrics.csv", table.drop(index=3))
    assert not drift.metrics(folder, NAME).ok  # a share that is lacking


def test_a_figure_with_other_bytes_is_found(folder):
    assert all(finding.ok for finding in drift.figures(folder, NAME, made(folder)))
    svg = folder / "figures" / "loss.svg"
    svg.write_bytes(svg.read_bytes() + b" ")
    loss, skills = drift.figures(folder, NAME, made(folder))
    assert skills.ok and not loss.ok and "other bytes: loss.svg" in loss.detail
    loss, _ = drift.figures(folder, NAME, made(folder, machine=ELSEWHERE))  # another renderer, the same numbers
    assert loss.ok and "the same numbers" in loss.detail and "machine" in loss.detail
    (folder / "figures" / "loss.csv").write_text("stage,step,loss\n")
    loss, _ = drift.figures(folder, NAME, made(folder, machine=ELSEWHERE))
    assert not loss.ok and "machine" in loss.cause
    svg.unlink()
    loss, _ = drift.figures(folder, NAME, made(folder))
    assert "loss.svg is missing" in str(loss)


@pytest.mark.parametrize(("by", "exact", "elsewhere"), [(0.0, True, True), (0.004, False, True), (0.3, False, False)])
def test_a_run_made_again_is_exact_here_and_within_intervals_elsewhere(folder, tmp_path, by, exact, elsewhere):
    table = pd.read_csv(folder / "metrics.csv")
    again = tmp_path / "runs" / "own" / "0"
    again.mkdir(parents=True)
    write_csv(again / "metrics.csv", table.assign(value=(table.value - by).abs()))
    (here,) = drift.runs_again(folder, tmp_path / "runs", NAME, made(folder))
    (there,) = drift.runs_again(folder, tmp_path / "runs", NAME, made(folder, machine=ELSEWHERE))
    assert (here.ok, there.ok) == (exact, elsewhere)
    assert "exactly" in here.detail and "within 95 % intervals" in there.detail and "machine" in there.cause


def test_other_words_since_the_weights_were_trained_are_found(folder):
    moved = swap_pieces(folder / "tokenizer.json")
    finding = drift.vocabulary(folder, NAME)
    assert not finding.ok and f"2 of {moved:,} pieces" in finding.detail and "train again" in finding.cause


def test_numbers_of_a_text_that_differ_are_counted():
    finding = drift.texts("README.md", "naming 96.4 of 1,000", "naming 97.1 of 1,000", "write it anew")
    assert not finding.ok and finding.detail == "1 numbers differ, first 96.4 for 97.1" and finding.cause == "write it anew"
    assert drift.texts("README.md", "same", "same", "").ok


@pytest.mark.parametrize(("share", "n", "gap"), [(0.5, 1000, 0.0438), (0.0, 100, 0.0277), (1.0, 100, 0.0277)])
def test_the_interval_between_two_shares(share, n, gap):
    """Two samples of n: 1.96 sqrt(2 p (1 - p) / n); at 0 and 1, where that is nothing, p (1 - p) counts as 1 / n."""
    assert drift.interval(share, n) == pytest.approx(gap, abs=1e-4)
