"""Any picture a person may hand in -> an RGB picture, or one line that says what is wrong and how to mend it."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

LARGEST = 100_000_000  # pixels; more is refused before anything is decoded
WHITE = (255, 255, 255, 255)

Picture = str | Path | Image.Image | np.ndarray


class PictureError(ValueError):
    """A picture that cannot be read. Its one line names the file and the mend."""


def read_picture(source: Picture) -> Image.Image:
    """The picture as 8-bit RGB, upright.

    `source` is a path, a PIL picture or an array (h, w, 3) uint8. EXIF rotation is applied; transparency is flattened
    on white; 16-bit greyscale is scaled to 8 bit; of an animation the first frame is read; CMYK, palettes and greyscale
    become RGB. Raises PictureError for whatever is not such a picture, and for more than 100 megapixels, before
    decoding it.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decode(source, "the picture")
    if isinstance(source, str | Path):
        return _from_file(Path(source))
    raise PictureError(f"{type(source).__name__}: not a picture; give a path, a PIL.Image or an array (h, w, 3) uint8")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape or array.dtype != np.uint8:
        raise PictureError(f"array {array.shape} {array.dtype}: not a picture; give (h, w, 3) uint8, values 0..255")
    _check_size("array", array.shape[1], array.shape[0])
    return Image.fromarray(np.ascontiguousarray(array))


def _from_file(path: Path) -> Image.Image:
    try:
        if not path.exists():
            raise PictureError(f"{path}: no such file; check the path")
        if path.is_dir():
            raise PictureError(f"{path}: a directory; name one picture in it")
        if path.is_file() and path.stat().st_size == 0:
            raise PictureError(f"{path}: the file is empty (0 bytes); copy or download it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is asked below
            with Image.open(path) as picture:
                return _decode(picture, str(path))
    except Image.DecompressionBombError:
        raise PictureError(f"{path}: more than {LARGEST // 10**6} megapixels; make it smaller first") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture, or broken from its start; give a PNG, JPEG or WebP") from None
    except PermissionError:
        raise PictureError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # a path that is none, or a header that lies
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{path}: cannot be opened ({_one_line(error)}); check the path and the file") from None


def _decode(picture: Image.Image, name: str) -> Image.Image:
    _check_size(name, *picture.size)
    try:
        if getattr(picture, "is_animated", False):
            picture.seek(0)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return _flatten(_to_8_bit(upright, name))
    except PictureError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, EOFError, zlib.error, struct.error, …
        raise PictureError(f"{name}: broken or cut off ({_one_line(error)}); save or download it again") from None


def _check_size(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError(f"{name}: {width}x{height} pixels; give a picture that has some")
    if width * height > LARGEST:
        raise PictureError(f"{name}: {width}x{height}, over {LARGEST // 10**6} megapixels; make it smaller first")


def _to_8_bit(picture: Image.Image, name: str) -> Image.Image:
    """16-bit greyscale (modes I;16* and I) scaled by 255 / 65535; PIL itself would clip at 255. Other modes pass."""
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        if picture.mode == "F":
            raise PictureError(f"{name}: holds floats, whose white is unknown; save it with 8 or 16 bits a channel")
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(f"{name}: holds values outside 0..65535; save it with 8 or 16 bits a channel")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, WHITE), seen).convert("RGB")
    return picture.convert("RGB")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
