"""Figures and what they promise: one look a bridge, a table beside every figure, the time that everything takes."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from seechat.bridges import BRIDGES
from seechat.reporting import pace
from seechat.reporting.curves import band, on_track
from seechat.reporting.figures import save_figure
from seechat.reporting.style import BRIDGES as LOOKS
from seechat.reporting.style import bridge_style, use_style


def test_every_bridge_has_its_own_colour_marker_and_line():
    for name in BRIDGES:
        assert bridge_style(name)["marker"]
    assert bridge_style("linear-2x2") == bridge_style("linear") != bridge_style("mlp")
    for part in zip(*LOOKS.values(), strict=True):
        assert len(set(part)) == len(LOOKS)
    with pytest.raises(KeyError, match="qfromer"):
        bridge_style("qfromer")


def test_a_figure_has_its_numbers_beside_it(tmp_path):
    use_style()
    for name in ("one", "two"):
        figure, axes = plt.subplots()
        axes.plot([1, 2])
        axes.set_title("图文对齐")
        save_figure(figure, tmp_path / name, pd.DataFrame({"y": [1, 2]}))
        plt.close(figure)
    for suffix in (".svg", ".png", ".csv"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    assert (tmp_path / "one.csv").read_text() == "y\n1\n2\n"


def test_a_run_is_on_track_inside_the_committed_band():
    steps = pd.DataFrame({"stage": "a", "step": range(1, 1001), "loss": [2 + 0.1 * (n % 7) for n in range(1000)]})
    assert (band(steps).low <= band(steps).high).all() and len(band(steps)) == 100
    titles = [on_track(own, steps).axes[0].get_title() for own in (steps, steps.assign(loss=steps.loss + 5))]
    assert titles == ["a: 100 of 100 inside", "a: 0 of 100 inside"]
    assert on_track(steps, None).axes[0].get_title() == "a"
    plt.close("all")


def test_minutes_are_scaled_by_the_speed_of_this_machine_and_its_cores(tmp_path, monkeypatch):
    path = tmp_path / "pace.json"
    monkeypatch.setattr(pace, "work", lambda: 1.0)
    pace.record("smoke", 2.04, path)
    pace.record("laptop", 80, path)
    assert json.loads(path.read_text()) == {"work": 1.0, "jobs": 2, "minutes": {"laptop": 80, "smoke": 2.0}}
    monkeypatch.setattr(pace, "work", lambda: 1.5)
    for cores, more in ((1, 2), (2, 1), (8, 1)):
        assert pace.expected(cores, path) == (1.5, {"laptop": 120 * more, "smoke": 3.0 * more})
