"""The foundation: strict specs, whole files, provenance, seeds."""

import errno
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from seechat.foundation import files, provenance
from seechat.foundation.files import CheckpointError, DiskFullError, atomic_write, load_tensors, save_tensors
from seechat.foundation.seeding import derive, rng, seed_everything
from seechat.foundation.strict import SpecError, digest, dump, nearest, read

# --- strict ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    name: str
    steps: int = 10
    lr: float = 1e-3
    train: tuple[str, ...] = ()
    data: Literal["captions", "questions", 3] = "captions"

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError("steps cannot be negative")


@dataclass(frozen=True)
class Experiment:
    question: str
    stages: list[Stage]
    seeds: list[int] = field(default_factory=list)
    margin: float | None = None
    packed: bool = False
    size: tuple[int, float] = (1, 0.5)
    arms: dict[str, Stage] = field(default_factory=dict)
    note: str | list[str] | None = None
    free: Any = None
    quick: bool | int = False


SPEC = {"question": "q", "stages": [{"name": "a"}]}


def test_a_spec_is_read_into_nested_dataclasses(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(
        """
        question: 图文对齐?
        stages: [&base {name: alignment, lr: 1e-3, steps: 600}]
        arms: {again: {<<: *base, lr: 3}}
        seeds: [0, 1]
        margin: 2.5E-2
        size: [2, 1]
        note: [x, y]
        """,
        encoding="utf-8",
    )
    spec = read(Experiment, path)
    assert spec == Experiment(
        "图文对齐?",
        [Stage("alignment", 600, 0.001)],
        [0, 1],
        margin=0.025,
        size=(2, 1.0),
        arms={"again": Stage("alignment", 600, 3.0)},
        note=["x", "y"],
    )
    assert type(spec.arms["again"].lr) is float and type(spec.size[1]) is float
    (tmp_path / "experiment.json").write_text(dump(spec), encoding="utf-8")
    assert read(Experiment, str(tmp_path / "experiment.json")) == spec


@pytest.mark.parametrize(
    "change, line",
    [
        ({"packd": True}, "packd: unknown key, did you mean 'packed'?"),
        ({"stages": [{"name": "a", "step": 3}]}, "stages[0].step: unknown key, did you mean 'steps'?"),
        ({"stages": [{"steps": 3}]}, "stages[0].name: missing, expected str"),
        ({"stages": {"name": "a"}}, "stages: expected list[Stage], got {'name': 'a'}"),
        ({"stages": ["a"]}, "stages[0]: expected the keys of Stage, got 'a'"),
        ({"arms": {"x": {"name": "a", "data": "caption"}}}, "unknown value 'caption', did you mean 'captions'?"),
        ({"arms": {1: {"name": "a"}}}, "arms: expected keys that are text (quote it), got 1"),
        ({"stages": [{"name": "a", "data": True}]}, "stages[0].data: unknown value True"),
        ({"stages": [{"name": False}]}, "stages[0].name: expected str (quote it), got False"),
        ({"stages": [{"name": "a", "steps": -1}]}, "stages[0]: steps cannot be negative"),
        ({"stages": [{"name": "a", "train": "bridge.*"}]}, "stages[0].train: expected tuple[str, ...], got 'bridge.*'"),
        ({"seeds": [0, True]}, "seeds[1]: expected int, got True"),
        ({"seeds": [0.0]}, "seeds[0]: expected int, got 0.0"),
        ({"seeds": None}, "seeds: expected list[int], got None"),
        ({"packed": 1}, "packed: expected bool, got 1"),
        ({"margin": True}, "margin: expected float or nothing, got True"),
        ({"margin": "0.5"}, "margin: expected float or nothing, got '0.5'"),
        ({"margin": math.nan}, "margin: expected float or nothing, got nan"),
        ({"size": [1]}, "size: expected 2 values, got [1]"),
        ({"note": ["x", 1]}, "note[1]: expected str (quote it), got 1"),
        ({"question": "x" * 99, "packed": "y" * 99}, "packed: expected bool, got '" + "y" * 36 + "..."),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(change, line):
    with pytest.raises(SpecError) as error:
        read(Experiment, SPEC | change)
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, text, line",
    [
        ("a.yaml", "question: x\nquestion: y", "the key 'question' is given twice"),
        ("a.json", '{"question": "x", "stages": [{"name": "a", "name": "b"}]}', "the key 'name' is given twice"),
        ("a.yaml", "question: [", "line 1"),
        ("a.yaml", "question: 2024-99-99", "cannot be parsed: month must be"),
        ("a.yaml", "", "top: expected the keys of Experiment, got None"),
        ("a.json", '{"question": ', "cannot be parsed: Expecting value: line 1"),
    ],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError) as error:
        read(Experiment, tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ") and line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "experiment.yaml").write_text("question: x")
    with pytest.raises(SpecError, match=r"experiment.yml: no such file, did you mean 'experiment.yaml'\?"):
        read(Experiment, tmp_path / "experiment.yml")


def test_an_overridden_merge_is_no_key_given_twice(tmp_path):
    text = "question: x\nstages:\n- &a {name: a}\n- &b {<<: *a, name: b}\n- {<<: *b, name: c}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert [stage.name for stage in read(Experiment, tmp_path / "a.yaml").stages] == ["a", "b", "c"]


def test_a_hint_no_spec_can_hold_is_the_programmers_error():
    @dataclass
    class Odd:
        x: set[int]

    with pytest.raises(TypeError, match=r"x: a spec cannot hold set\[int\]"):
        read(Odd, {"x": [1]})


def test_nearest():
    assert nearest("laptop/sechat", ["smoke/seechat", "laptop/seechat"]) == ", did you mean 'laptop/seechat'?"
    assert nearest("COLOUR", ["colour"]) == ", did you mean 'colour'?"
    assert nearest("zzz", ["counting", "naming"]) == "; known: counting, naming"
    assert nearest("zzz", map(str, range(99))).endswith("11, …")
    assert nearest("zzz", []) == ""


stages = st.builds(
    Stage,
    name=st.text(),
    steps=st.integers(min_value=0),
    lr=st.floats(allow_nan=False, allow_infinity=False),
    train=st.lists(st.text(), max_size=2).map(tuple),
    data=st.sampled_from(["captions", "questions", 3]),
)
experiments = st.builds(
    Experiment,
    question=st.text(),
    stages=st.lists(stages, max_size=2),
    seeds=st.lists(st.integers(), max_size=3),
    margin=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    packed=st.booleans(),
    size=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    arms=st.dictionaries(st.text(), stages, max_size=2),
    note=st.none() | st.text() | st.lists(st.text(), max_size=2),
    quick=st.booleans() | st.integers(),
)


@given(experiments)
def test_dump_and_read_are_inverse(spec):
    again = read(Experiment, json.loads(dump(spec)))
    assert again == spec and digest(again) == digest(spec)
    assert type(again.quick) is type(spec.quick)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([each.name for each in fields(Experiment)]) | st.text(), JSON, max_size=5))
def test_whatever_stands_in_a_spec_is_read_or_refused_in_one_line(value):
    try:
        read(Experiment, value)
    except SpecError as error:
        assert len(str(error).splitlines()) == 1


def test_a_digest_sees_values_not_their_spelling():
    assert digest({"a": 1, "b": 2.0}) == digest({"b": 2, "a": 1.0}) == digest({"a": 1, "b": 2})
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]}) != digest({"a": [2, 1]})
    assert digest(Stage("a")) == digest(Stage("a", lr=0.001)) != digest(Stage("a", lr=0.002))
    assert dump(Stage("图", lr=0)) == '{"data":"captions","lr":0,"name":"图","steps":10,"train":[]}'
    with pytest.raises(ValueError):
        dump({"a": math.nan})
    with pytest.raises(TypeError):
        dump({1: "a"})


# --- files -------------------------------------------------------------------------------------------------------


def test_the_cache_is_where_it_was_asked_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("SEECHAT_CACHE", str(tmp_path / "cache"))
    assert files.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SEECHAT_CACHE")
    assert files.cache_dir().name == "seechat" and files.cache_dir().is_absolute()


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with atomic_write(path) as aside:
            assert aside.parent == path.parent and aside.suffix == ".txt"
            aside.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.EACCES, "no")])
def test_after_an_error_nothing_has_changed(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(type(error)) as raised, atomic_write(path) as aside:
        aside.write_text("half")
        raise error
    assert raised.value is error
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (OSError(errno.ENOSPC, "x"), 10**9),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), 10**9),
        (RuntimeError("inline_container.cc: unexpected pos 704 vs 598"), 512),
    ],
)
def test_a_full_disk_is_one_line(tmp_path, error, free, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(DiskFullError) as raised, atomic_write(path):
        raise error
    assert str(raised.value) == f"{path}: the disk is full, nothing was written"
    assert path.read_text() == "before"


def test_tensors_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {
        "a": torch.randn(3, 4).t(),  # not contiguous
        "b": torch.arange(5),
        "c": torch.randn(2).to(torch.bfloat16),
        "empty": torch.zeros(0, 2),
    }
    save_tensors(path, tensors, {"note": "图文 \"quoted\" \n\x01"})
    again, metadata = load_tensors(path)
    assert again.keys() == tensors.keys() and all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert all(again[name].dtype == tensors[name].dtype for name in tensors)
    assert metadata == {"format": "pt", "note": "图文 \"quoted\" \n\x01"}


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    tensors, metadata = {str(i): torch.ones(i) for i in range(9)}, {str(i): str(i) for i in range(9)}
    for name in "abc":  # safetensors alone writes the metadata in another order each time
        save_tensors(tmp_path / name, tensors, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_unreadable_tensors_are_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(10)})
    whole = path.read_bytes()
    pointer, pickle = b"version https://git-lfs.github.com/spec/v1", b"PK\3\4"
    for broken in (b"", whole[:5], whole[:20], whole[:-1], whole + b"x", pointer, pickle):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="a.safetensors: not a safetensors file, or cut off: ") as error:
            load_tensors(path)
        assert "\n" not in str(error.value)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            load_tensors(missing)


def test_two_names_for_one_storage_are_refused_and_nothing_is_written(tmp_path):
    tied = torch.ones(3)
    with pytest.raises(CheckpointError, match="share memory") as error:
        save_tensors(tmp_path / "a", {"a": tied, "b": tied})
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_json_is_readable_and_ends_its_last_line(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": "图", "a": Stage("x")})
    text = (tmp_path / "a.json").read_bytes().decode()
    assert text.startswith('{\n  "b": "图",\n  "a": {') and text.endswith("}\n") and "\r" not in text
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"a": math.inf})
    assert (tmp_path / "a.json").read_bytes().decode() == text


def test_a_table_keeps_float32_and_its_bytes(tmp_path):
    values = np.random.default_rng(0).standard_normal(61) * 10.0 ** np.arange(-30, 31)
    table = pd.DataFrame({"n": range(61), "value": values.astype(np.float32), "arm": "图"})
    table.loc[3, "value"] = math.nan
    files.write_csv(tmp_path / "a.csv", table)
    content = (tmp_path / "a.csv").read_bytes()
    assert b"\r" not in content and content.startswith(b"n,value,arm\n0,")
    again = pd.read_csv(tmp_path / "a.csv")
    assert np.array_equal(again["value"].astype(np.float32), table["value"], equal_nan=True)
    files.write_csv(tmp_path / "b.csv", again)
    assert (tmp_path / "b.csv").read_bytes() == content


def test_a_fraction_is_not_written_with_all_its_noise(tmp_path):
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"value": [0.1 + 0.2, 1.0, 3e-7]}))
    assert (tmp_path / "a.csv").read_text() == "value\n0.3\n1\n3e-07\n"


# --- provenance --------------------------------------------------------------------------------------------------


def test_provenance_says_what_made_it_and_not_where():
    made = provenance.provenance(Stage("a"), range(3), minutes=1.234, arm="linear")
    text = json.dumps(made)
    assert made["spec"] == digest(Stage("a")) and made["seeds"] == [0, 1, 2] and made["arm"] == "linear"
    assert made["packages"]["torch"].startswith("2.") and made["machine"]["threads"] == torch.get_num_threads()
    assert made["timing"]["minutes"] == 1.23
    for secret in (platform.node(), str(Path.home()), str(Path.cwd()), sys.prefix):
        assert secret not in text


def test_all_but_the_timing_is_the_same_twice():
    one, two = (provenance.provenance(SPEC, [1], minutes=minutes) for minutes in (0.0, 1e9))
    assert one.pop("timing") != two.pop("timing")
    assert json.dumps(one) == json.dumps(two)


def test_a_clock_adds_up_what_several_processes_worked(tmp_path, monkeypatch):
    now = iter([0.0, 60.0, 1000.0, 1030.0])
    monkeypatch.setattr(provenance.time, "monotonic", lambda: next(now))
    provenance.Clock(tmp_path).save()  # one minute
    assert provenance.Clock(tmp_path).minutes == 1.5  # and half a minute later on


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A checkout with the package's provenance.py in it, inside a repository that is not ours."""
    root = tmp_path / "outer" / "checkout"
    module = root / "src" / "seechat" / "foundation" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.touch()
    (root / "pyproject.toml").touch()
    (root / "requirements.lock").write_text("torch==2.13.0\n")
    monkeypatch.setattr(provenance, "__file__", str(module))
    for variable in [each for each in os.environ if each.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    return root


def git(root, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_provenance_of_a_checkout(elsewhere):
    git(elsewhere.parent, "init", "-q")
    git(elsewhere.parent, "commit", "-qm", "not ours", "--allow-empty")
    made = provenance.provenance()
    assert made["commit"] is made["dirty"] is made["spec"] is made["seeds"] is made["timing"]["minutes"] is None
    assert made["lock"] == hashlib.sha256(b"torch==2.13.0\n").hexdigest()

    git(elsewhere, "init", "-q")
    assert provenance.provenance()["commit"] is None  # nothing committed yet
    git(elsewhere, "add", ".")
    git(elsewhere, "commit", "-qm", "first")
    made = provenance.provenance()
    assert len(made["commit"]) == 40 and made["dirty"] is False
    (elsewhere / "results.csv").touch()
    assert provenance.provenance()["dirty"] is False  # results do not make the code another
    (elsewhere / "src" / "seechat" / "new.py").touch()
    assert provenance.provenance()["dirty"] is True


def test_provenance_without_git_or_checkout(elsewhere, monkeypatch):
    (elsewhere / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert provenance.provenance()["commit"] is None
    (elsewhere / "pyproject.toml").unlink()
    assert provenance.checkout() is None and provenance.provenance()["lock"] is None


# --- seeds -------------------------------------------------------------------------------------------------------


def test_a_stream_is_the_same_everywhere():
    assert derive("scenes", "train", 7) == 8043526862009560147
    assert rng("scenes", "train", 7).integers(0, 1000, 5).tolist() == [595, 428, 837, 458, 191]


parts = st.lists(st.text() | st.integers() | st.none(), max_size=4)


@given(parts, parts)
def test_other_parts_other_seed(one, two):
    assert (derive(*one) == derive(*two)) == (one == two)
    assert 0 <= derive(*one) < 2**63


def test_everything_is_seeded():
    import random

    def draw():
        seed_everything(3)
        return random.random(), np.random.random(), torch.rand(2).tolist()

    assert draw() == draw()
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)


def test_tables_and_specs_are_read_without_torch():
    script = "import sys, seechat.foundation.files, seechat.foundation.provenance as p, seechat.foundation.seeding;"
    script += "assert p.provenance()['machine']['gpus'] is None; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_text_its_bytes_and_a_file_of_them_have_one_digest(tmp_path):
    path = tmp_path / "字.txt"
    path.write_text("字", encoding="utf-8")
    assert files.sha256("字") == files.sha256("字".encode()) == files.sha256(path) == hashlib.sha256("字".encode()).hexdigest()
