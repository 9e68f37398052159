"""Every kind of picture file comes out as upright 8-bit RGB, or as one line that names the file and the mend."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from seechat.data.pictures import PictureError, read_picture

RED, WHITE = (255, 0, 0), (255, 255, 255)


def png(path, width, height, *, depth=8, colour=2, data=b""):
    """A hand-made PNG: header, one data chunk, end."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def refusal(source) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(source)
    assert isinstance(caught.value, ValueError)
    line = str(caught.value)
    assert "\n" not in line and ";" in line  # one line: what is wrong; the mend
    return line


def pixel(picture, x=0, y=0):
    assert picture.mode == "RGB"
    return picture.getpixel((x, y))


def test_path_string_picture_and_array_agree(tmp_path):
    array = np.random.default_rng(0).integers(256, size=(5, 7, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    for source in (path, str(path), Image.open(path), array, array[:, ::-1][:, ::-1]):
        assert np.array_equal(np.asarray(read_picture(source)), array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    stored = Image.new("RGB", (4, 2), WHITE)
    stored.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    upright = read_picture(path)
    corner = {1: (0, 0), 2: (3, 0), 3: (3, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 3), 8: (0, 3)}[orientation]
    assert upright.size == ((4, 2) if orientation < 5 else (2, 4))
    assert pixel(upright, *corner) == RED


def test_cmyk(tmp_path):
    path = tmp_path / "print.tiff"
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(path)
    assert pixel(read_picture(path)) == RED


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    assert pixel(read_picture(tmp_path / "plain.png"), 1) == (0, 0, 255)
    assert pixel(read_picture(tmp_path / "clear.png"), 1) == WHITE
    assert pixel(read_picture(tmp_path / "clear.png"), 0) == RED


@pytest.mark.parametrize(("mode", "colour", "expected"), [
    ("1", 1, WHITE), ("L", 77, (77, 77, 77)), ("LA", (0, 0), WHITE), ("RGBA", (255, 0, 0, 0), WHITE),
    ("RGBA", (255, 0, 0, 255), RED), ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
])  # fmt: skip
def test_greyscale_and_alpha(tmp_path, mode, colour, expected):
    path = tmp_path / "x.png"
    Image.new(mode, (3, 2), colour).save(path)
    assert pixel(read_picture(path)) == expected


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_is_scaled_not_clipped(tmp_path, suffix):
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(path)
    assert np.asarray(read_picture(path))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_colour(tmp_path):
    rows = b"\0" + struct.pack(">3H", 65535, 32768, 0)
    assert pixel(read_picture(png(tmp_path / "deep.png", 1, 1, depth=16, data=zlib.compress(rows)))) == (255, 128, 0)


def test_32_bit_integers_and_floats(tmp_path):
    assert pixel(read_picture(Image.fromarray(np.array([[65535]], np.int32)))) == WHITE
    assert "8 or 16 bits" in refusal(Image.fromarray(np.array([[70000]], np.int32)))
    assert "8 or 16 bits" in refusal(Image.fromarray(np.array([[0.5]], np.float32)))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    assert pixel(read_picture(path)) == RED


def test_missing_directory_and_empty(tmp_path):
    assert "nowhere.png: no such file" in refusal(tmp_path / "nowhere.png")
    assert "directory" in refusal(str(tmp_path))
    (tmp_path / "none.png").touch()
    assert "none.png: the file is empty" in refusal(tmp_path / "none.png")
    refusal("a\0b.png")
    refusal("x" * 5000)


def test_not_a_picture_broken_and_truncated(tmp_path):
    (tmp_path / "notes.jpg").write_text("not a picture at all")
    assert "notes.jpg: not a picture" in refusal(tmp_path / "notes.jpg")
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tiff"):
        whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
        noise.save(whole)
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        assert cut.name in refusal(cut)
    assert "broken.png" in refusal(png(tmp_path / "broken.png", 8, 8, data=b"no zlib stream"))


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_001, 10_000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, size):
    path = png(tmp_path / "bomb.png", *size, depth=1, colour=0, data=zlib.compress(b"\0" * 1000))
    tracemalloc.start()
    line = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "bomb.png" in line and "100 megapixels" in line
    assert peak < 2_000_000


def test_wrong_arrays():
    for shape in ((4, 4), (4, 4, 4), (3, 4, 4), (0, 4, 3)):
        assert "(h, w, 3) uint8" in refusal(np.zeros(shape, np.uint8))
    assert "(h, w, 3) uint8" in refusal(np.zeros((4, 4, 3)))
    assert "NoneType" in refusal(None)
    huge = np.broadcast_to(np.zeros(3, np.uint8), (50_000, 50_000, 3))
    assert "megapixels" in refusal(huge)
