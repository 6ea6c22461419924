"""Real files of every kind that cameras, scanners and the web leave in folders."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluators.decoding import read_image, read_images
from search_space.errors import WorkFailed

RED, WHITE = (255, 0, 0), (255, 255, 255)


def plain(size: tuple[int, int] = (40, 30), colour: Any = RED, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def half_transparent() -> Image.Image:
    image = plain((20, 20), (255, 0, 0, 255), "RGBA")
    image.paste((0, 0, 255, 0), (0, 0, 20, 10))
    return image


def palette(*, transparent: bool) -> tuple[Image.Image, dict[str, Any]]:
    image = plain().convert("P")
    return image, {"transparency": image.getpixel((0, 0))} if transparent else {}


def sixteen_bits(low: int = 0x1234, high: int = 0xFFFF) -> Image.Image:
    values = np.full((30, 40), low, np.uint16)
    values[:, 20:] = high
    return Image.fromarray(values)


def save(image: Image.Image, path: Path, **options: Any) -> str:
    image.save(path, **options)
    return str(path)


def close(pixels: np.ndarray[Any, Any], colour: tuple[int, ...], tolerance: int = 4) -> bool:
    return bool((np.abs(pixels.astype(int) - colour) <= tolerance).all())


FILES: dict[str, tuple[Callable[[Path], str], tuple[int, int, int]]] = {
    "colour": (lambda f: save(plain(), f / "a.png"), RED),
    "jpeg": (lambda f: save(plain(), f / "a.jpg", quality=95), RED),
    "grey": (lambda f: save(plain(colour=100, mode="L"), f / "a.png"), (100, 100, 100)),
    "grey with alpha": (lambda f: save(plain(colour=(100, 0), mode="LA"), f / "a.png"), WHITE),
    "black and white": (lambda f: save(plain(colour=1, mode="1"), f / "a.png"), WHITE),
    "transparent": (lambda f: save(plain(colour=(0, 0, 255, 0), mode="RGBA"), f / "a.png"), WHITE),
    "half opaque": (lambda f: save(plain(colour=(255, 0, 0, 128), mode="RGBA"), f / "a.png"), (255, 127, 127)),
    "transparent webp": (lambda f: save(plain(colour=(0, 0, 255, 0), mode="RGBA"), f / "a.webp", lossless=True), WHITE),
    "palette": (lambda f: save(palette(transparent=False)[0], f / "a.png"), RED),
    "transparent palette": (
        lambda f: save(palette(transparent=True)[0], f / "a.png", **palette(transparent=True)[1]),
        WHITE,
    ),
    "one transparent colour": (lambda f: save(plain(), f / "a.png", transparency=RED), WHITE),
    "cmyk": (lambda f: save(plain().convert("CMYK"), f / "a.jpg", quality=95), RED),
    "16 bits": (lambda f: save(sixteen_bits(0x80FF, 0x80FF), f / "a.png"), (0x80,) * 3),
    "16 bits, tiff": (lambda f: save(sixteen_bits(0x80FF, 0x80FF), f / "a.tif"), (0x80,) * 3),
    "16 bits, pgm": (lambda f: save(sixteen_bits(0x80FF, 0x80FF), f / "a.pgm"), (0x80,) * 3),
    "one pixel": (lambda f: save(plain((1, 1)), f / "a.png"), RED),
    "a line": (lambda f: save(plain((3_000, 1)), f / "a.png"), RED),
    "a column": (lambda f: save(plain((1, 3_000)), f / "a.jpg", quality=95), RED),
    "huge": (lambda f: save(plain((6_000, 5_000)), f / "a.jpg", quality=95), RED),
    "bitmap": (lambda f: save(plain(), f / "a.bmp"), RED),
    "wrong suffix": (lambda f: save(plain(), f / "a.jpg", format="PNG"), RED),
    "animated": (
        lambda f: save(plain(), f / "a.gif", save_all=True, append_images=[plain(colour=(0, 0, 255))] * 2),
        RED,
    ),
    "strange name": (lambda f: save(plain(), f / "früher 写真 \n.png"), RED),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES.keys())
def test_it_is_read_as_people_see_it(make: tuple[Callable[[Path], str], tuple[int, int, int]], tmp_path: Path) -> None:
    write, colour = make
    pixels = read_image(write(tmp_path), 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert close(pixels, colour)


def test_parts_of_an_image(tmp_path: Path) -> None:
    pixels = read_image(save(half_transparent(), tmp_path / "a.png"), 20)
    assert close(pixels[:9], WHITE)
    assert close(pixels[11:], RED)
    pixels = read_image(save(sixteen_bits(), tmp_path / "b.png"), 30)
    assert close(pixels[:, :12], (0x12,) * 3)
    assert close(pixels[:, 18:], WHITE)


@pytest.mark.parametrize(("size", "width"), [((64, 20), 20), ((20, 64), 20), ((2_000, 500), 500)])
def test_the_middle_is_kept(size: tuple[int, int], width: int, tmp_path: Path) -> None:
    image = plain(size)
    left, top = (size[0] - width) // 2, (size[1] - width) // 2
    image.paste((0, 255, 0), (left, top, left + width, top + width))
    assert close(read_image(save(image, tmp_path / "a.png"), 8)[1:-1, 1:-1], (0, 255, 0))
    assert close(read_image(save(image, tmp_path / "a.jpg", quality=95), 8)[1:-1, 1:-1], (0, 255, 0), 40)


def test_it_is_turned_as_the_camera_was(tmp_path: Path) -> None:
    image = plain((32, 32))
    image.paste((0, 0, 255), (0, 0, 32, 16))  # blue above, in the file
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: blue to the right
    pixels = read_image(save(image, tmp_path / "a.jpg", quality=95, exif=exif), 32)
    assert close(pixels[:, 20:], (0, 0, 255), 30)
    assert close(pixels[:, :12], RED, 30)


def test_spoilt_exif_data_do_not_matter(tmp_path: Path) -> None:
    path = save(plain(), tmp_path / "a.jpg", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff")
    assert close(read_image(path, 8), RED)


def bad_files(folder: Path) -> dict[str, str]:
    """Path -> part of the reason."""
    whole = Path(save(plain((200, 200)), folder / "whole.jpg", quality=95)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(folder / "int.tif")
    plain((1, 1)).save(folder / "bomb.bmp")
    header = bytearray((folder / "bomb.bmp").read_bytes())
    header[18:26] = (60_000).to_bytes(4, "little") * 2
    (folder / "bomb.bmp").write_bytes(header)
    return {
        "cut.jpg": "truncated",
        "text.jpg": "cannot identify image file",
        "empty.png": "cannot identify image file",
        "folder.png": "Is a directory",
        "nowhere.png": "No such file",
        "float.tif": "pixels of mode F are beyond 16 bits",
        "int.tif": "pixels of mode I are beyond 16 bits",
        "bomb.bmp": "exceeds limit",
    }


def test_what_cannot_be_read_is_named_and_passed_over(tmp_path: Path) -> None:
    reasons = bad_files(tmp_path)
    paths = [str(tmp_path / name) for bad in reasons for name in (bad, "whole.jpg")]
    (chunk,) = read_images(paths, 8)
    pixels, failures = chunk
    assert len(pixels) == len(reasons)
    assert close(pixels, RED)
    assert [place for place, _ in failures] == list(range(0, len(paths), 2))
    for (_, reason), expected in zip(failures, reasons.values(), strict=True):
        assert expected in reason
        assert str(tmp_path) not in reason
        assert "\n" not in reason


def test_many_are_read_by_several_processes_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluators.decoding._FEW", 10)
    monkeypatch.setattr("evaluators.decoding._processors", lambda: 2)
    paths = [save(plain((2, 2), (n, n, n)), tmp_path / f"{n}.png") for n in range(200)]
    Path(paths[70]).write_text("not an image")
    chunks = list(read_images(paths, 4))
    assert [place for _, failures in chunks for place, _ in failures] == [70]
    shades = np.concatenate([pixels for pixels, _ in chunks])[:, 0, 0, 0]
    assert shades.tolist() == [n for n in range(200) if n != 70]


def test_a_process_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(path: str, size_px: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("evaluators.decoding._FEW", 0)
    monkeypatch.setattr("evaluators.decoding._processors", lambda: 1)
    monkeypatch.setattr("evaluators.decoding.read_image", die)
    with pytest.raises(WorkFailed, match=r"a process that reads images died \(out of memory"):
        list(read_images([save(plain(), tmp_path / "a.png")], 4))
