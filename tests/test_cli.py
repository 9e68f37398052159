"""The command line: right answers, and one clear line with a non-zero exit code for what is wrong. No traceback, ever."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seechat import cli
from seechat.presets import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A smoke model and a picture."""
    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    build("smoke/seechat").save_pretrained(folder / "model")
    Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save(folder / "grey.png")
    return folder


@pytest.fixture()
def call(monkeypatch, capsys):
    """-> (exit code, standard output, standard error) of `seechat …`."""

    def run(*arguments: object, typed: str = ""):
        monkeypatch.setattr(sys, "argv", ["seechat", *map(str, arguments)])
        monkeypatch.delenv("SEECHAT_DEBUG", raising=False)
        monkeypatch.setattr(sys, "stdin", __import__("io").StringIO(typed))
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_chat_answers_questions_given_and_typed(call, folder):
    ask = ("--ask", "左上是什么？", "--ask", "What is below it?")
    code, out, err = call("chat", folder / "grey.png", folder / "grey.png", "--system", folder / "model", "--max-new-tokens", 3, *ask)
    assert code == 0, err
    assert len(out.splitlines()) >= 2
    code, out, err = call("chat", folder / "grey.png", "--system", folder / "model", "--max-new-tokens", 3, typed="有猫吗？\n\n")
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("chat", "nowhere.png", "--system", "{model}"), "nowhere.png"),
        (("chat", "{picture}", "--system", "laptop/seachat", "--ask", "x"), "did you mean 'seechat'"),
        (("chat", "{picture}", "--system", "labtop/seechat", "--ask", "x"), "did you mean 'laptop'"),
        (("chat", "{picture}", "--system", "./no/such/folder", "--ask", "x"), "no such folder"),
        (("chat", "{picture}", "--system", "{empty}", "--ask", "x"), "config.json"),
        (("chat", "{picture}", "--system", "{model}", "--ask", ""), "question is empty"),
        (("chat", "{picture}", "--system", "{model}", "--ask", "猫" * 4000), "more than the limit"),
        (("run", "experiments/nothing"), "no such experiment"),
        (("bench", "wrld"), "did you mean 'world'"),
    ],
)
def test_what_is_wrong_is_one_line(call, folder, tmp_path, arguments, told):
    names = {"model": folder / "model", "picture": folder / "grey.png", "empty": tmp_path}
    code, out, err = call(*(argument.format(**names) for argument in arguments))
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in err + out


def test_an_unknown_key_in_a_spec_names_the_nearest(call, tmp_path):
    (tmp_path / "experiment.yaml").write_text("question: x?\nsystem: smoke/seechat\nstages: []\nsedes: [0]\n")
    code, _, err = call("run", tmp_path)
    assert code == 2 and "did you mean 'seeds'" in err and len(err.strip().splitlines()) == 1


def test_systems_prints_rows_of_json(call):
    code, out, _ = call("systems", "--json")
    rows = json.loads(out)
    assert code == 0
    paper = next(row for row in rows if row["name"] == "paper/seechat")
    assert paper["language"] == 6_707_929_088 and paper["unit"] == "parameters"


def test_every_subcommand_has_help(call):
    for name in ("demo", "chat", "run", "systems", "bench", "doctor"):
        code, out, _ = call(name, "--help")
        assert code == 0 and "Usage" in out
