"""The article's timeline: rows that cannot be trusted are refused, labels keep apart, and every value names its source."""

import itertools
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seechat.reporting.figures import save_figure
from seechat.reporting.timeline import (
    LANES,
    MARK,
    NOTHING,
    PROPERTIES,
    SYSTEMS,
    differences,
    overview,
    read_systems,
    read_timeline,
    stack,
    systems_table,
    timeline_figure,
    to_html,
)  # fmt: skip

ARTICLE = Path(__file__).parents[1] / "experiments" / "article"
MODEL = {
    "name": "CLIP", "date": "2021-02-26", "route": "vision expert", "by": "OpenAI", "source": "arXiv:2103.00020", "named": "article",
    "note": "",
}  # fmt: skip


def written(path: Path, *rows: dict) -> Path:
    pd.DataFrame(rows).to_csv(path / "table.csv", index=False)
    return path / "table.csv"


# ---- the timeline --------------------------------------------------------------------------------------------------


def test_the_committed_timeline():
    table = read_timeline(ARTICLE / "timeline.csv")
    assert set(SYSTEMS) <= set(table.name) and set(table.route) == set(LANES)
    assert table.source.str.len().min() > 10
    assert set(table[table.named == "ours"].route) == {"text expert", "vision expert"}, "systems are the article's or README's"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"date": "2021"}, "CLIP: '2021' is no date; write YYYY-MM-DD or YYYY-MM"),
        ({"date": "2021-02-30"}, "CLIP: '2021-02-30' is no date"),
        ({"date": "2021-13"}, "'2021-13' is no date"),
        ({"route": "vision export"}, "CLIP: unknown route 'vision export', did you mean 'vision expert'"),
        ({"source": ""}, "CLIP: source ''; write arXiv:YYMM.NNNNN or a page's https:// address"),
        ({"source": "Radford 2021"}, "source 'Radford 2021'"),
        ({"date": "2022-02-26"}, "arXiv:2103.00020 is of 2021-03, the date 2022-02-26; mend one of them"),
        ({"date": "2021-04"}, "arXiv:2103.00020 is of 2021-03"),
        ({"named": "article?"}, "named by 'article\\?', did you mean 'article'"),
        ({"name": ""}, "no name"),
        ({"name": "GLIDE"}, "'GLIDE' is in an earlier line; keep one"),
    ],
)
def test_a_row_that_cannot_be_trusted_is_refused_with_its_line(tmp_path, change, told):
    path = written(tmp_path, MODEL | {"name": "GLIDE"}, MODEL | change)
    with pytest.raises(ValueError, match=f"table.csv, line 3: .*{told}") as error:
        read_timeline(path)
    assert "\n" not in str(error.value)


def test_other_columns_are_refused(tmp_path):
    path = written(tmp_path, {key: value for key, value in MODEL.items() if key != "source"})
    with pytest.raises(ValueError, match="line 1: other columns; write name,date,route,by,source,named,note"):
        read_timeline(path)


def test_dates_of_days_and_months(tmp_path):
    path = written(tmp_path, MODEL, MODEL | {"name": "later", "date": "2021-03"})
    assert read_timeline(path).date.tolist() == [pd.Timestamp("2021-02-26"), pd.Timestamp("2021-03-15")]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=12))
def test_stacked_spans_never_touch(spans):
    rows = stack(spans)
    assert sorted(set(rows)) == list(range(len(set(rows))))
    for (one, a), (two, b) in itertools.combinations(zip(rows, spans, strict=True), 2):
        assert one != two or a[1] <= b[0] or b[1] <= a[0]


def crowded() -> pd.DataFrame:
    """Every name, some of them too long for the room to the right, on three days at the end of the axis."""
    table = read_timeline(ARTICLE / "timeline.csv")
    names = [name + " and what it was called before" * (number % 2) for number, name in enumerate(table.name)]
    dates = [pd.Timestamp("2023-06-25") + pd.Timedelta(days=number % 3) for number in range(len(table))]
    return table.assign(name=names, date=[pd.Timestamp("2015-01-01"), *dates[1:]])


@pytest.mark.parametrize("table", [read_timeline(ARTICLE / "timeline.csv"), crowded()], ids=["committed", "crowded"])
def test_no_two_labels_overlap_and_none_leaves_the_figure(table):
    figure = timeline_figure(table)
    figure.canvas.draw()
    (axes,) = figure.axes
    drawn = [text for text in axes.texts + axes.get_xticklabels() if text.get_text() and text.get_visible()]
    assert {text.get_text() for text in drawn} >= set(table.name)
    boxes = {id(text): text.get_window_extent() for text in drawn}
    for one, two in itertools.combinations(drawn, 2):
        assert not boxes[id(one)].overlaps(boxes[id(two)]), (one.get_text(), two.get_text())
    markers = [line.get_window_extent() for line in axes.lines if line.get_marker() not in ("None", "", None)]
    for text, marker in itertools.product(drawn, markers):
        assert not boxes[id(text)].overlaps(marker), text.get_text()
    for text in drawn:
        box = boxes[id(text)]
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()


def test_a_lane_has_a_colour_and_a_marker_of_its_own():
    for part in range(3):
        assert len({lane[part] for lane in LANES.values()}) == len(LANES)


def test_the_timeline_has_the_same_bytes_twice(tmp_path):
    table = read_timeline(ARTICLE / "timeline.csv")
    save_figure(timeline_figure(table), tmp_path / "one")
    save_figure(timeline_figure(table), tmp_path / "two")
    for suffix in (".svg", ".png"):
        one, two = (tmp_path / f"{name}{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() and len(one.read_bytes()) > 5_000


# ---- the systems ---------------------------------------------------------------------------------------------------


def test_every_system_has_every_property_with_a_source():
    table = read_systems(ARTICLE / "systems.csv")
    assert set(zip(table.system, table.property, strict=True)) == set(itertools.product(SYSTEMS, PROPERTIES))
    assert table.source.ne("").all() and table.source_value.ne("").all() and table.article.ne("").all()
    assert table[table.article == NOTHING].difference.eq("").all()


def test_both_tables_say_the_same_of_dates_and_routes():
    timeline = read_timeline(ARTICLE / "timeline.csv").set_index("name")
    table = read_systems(ARTICLE / "systems.csv").set_index(["system", "property"])
    for system in SYSTEMS:
        assert timeline.date[system].strftime("%Y-%m-%d") in table.source_value[system, "public since"]
        assert timeline.route[system] == table.article[system, "route"]


def test_differences_are_marked_and_told():
    shown = systems_table(ARTICLE / "systems.csv", "KOSMOS-1", "SEEChat")
    assert list(shown.index.get_level_values(0).unique()) == ["KOSMOS-1", "SEEChat"] and len(shown) == 2 * len(PROPERTIES)
    assert shown[MARK]["KOSMOS-1", "public since"] == MARK and shown[MARK]["KOSMOS-1", "vision expert"] == ""
    told = differences(ARTICLE / "systems.csv")
    assert len(told) == systems_table(ARTICLE / "systems.csv")[MARK].eq(MARK).sum() > 5
    assert "KOSMOS-1, public since: The first version is of 27 February, not of March." in told
    assert list(overview(ARTICLE / "systems.csv").index) == list(SYSTEMS)
    with pytest.raises(ValueError, match="unknown system 'LLAVA', did you mean 'LLaVA'"):
        systems_table(ARTICLE / "systems.csv", "LLAVA")


def test_html_has_whole_cells_and_links():
    html = to_html(systems_table(ARTICLE / "systems.csv", "BLIP-2"))
    assert "115 M of LAION-400M" in html and '<a href="https://arxiv.org/abs/2301.12597">' in html and "&lt;image&gt;" not in html
    assert "&lt;image&gt;" in to_html(systems_table(ARTICLE / "systems.csv", "KOSMOS-1")), "what a source says is text, not markup"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"system": "Llava"}, "unknown system 'Llava', did you mean 'LLaVA'"),
        ({"property": "prize"}, "unknown property 'prize'"),
        ({"source": ""}, "SEEChat, public since: source is empty"),
        ({"article": ""}, f"article is empty; write {NOTHING}"),
        ({"article": NOTHING, "difference": "They differ."}, "a difference, but the article says nothing"),
        ({"difference": "no stop"}, "end it with a full stop"),
        ({"property": "route"}, "SEEChat, route is in an earlier line"),
    ],
)
def test_a_wrong_property_is_refused_with_its_line(tmp_path, change, told):
    rows = read_systems(ARTICLE / "systems.csv").query("system == 'SEEChat'").to_dict("records")
    rows[1] |= change
    with pytest.raises(ValueError, match=f"table.csv, line 3: .*{told}"):
        read_systems(written(tmp_path, *rows))


def test_a_lacking_property_is_refused(tmp_path):
    rows = read_systems(ARTICLE / "systems.csv").to_dict("records")
    with pytest.raises(ValueError, match="no row for PaLM-E, route; add it, with –"):
        read_systems(written(tmp_path, *(row for row in rows if (row["system"], row["property"]) != ("PaLM-E", "route"))))


def test_the_timeline_needs_no_torch():
    told = "import seechat.reporting.timeline, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], timeout=120).returncode == 0
