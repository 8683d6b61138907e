import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from fnn.data import DataError, image_folder

RANDOM = np.random.default_rng(0)
MASKS = (0xF800, 0x07E0, 0x001F)  # of red, green and blue


def picture(path, mode="L", size=(6, 4)):
    """Writes a random image of width × height `size`; its pixels, (H, W, channels) or (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    pixels = RANDOM.integers(0, 256, (*size[::-1], *channels), np.uint8)
    Image.fromarray(pixels, mode=None).save(path)
    return pixels


def test_folders_are_classes_and_a_test_part_is_held_out(tmp_path):
    pixels = {}
    for name in ("dog", "ant", "cat"):
        for i in range(5):
            pixels[name, i] = picture(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets/.cache").mkdir()
    (tmp_path / "pets/readme.txt").write_text("no class")
    (tmp_path / "pets/ant/.hidden").write_text("no image")
    train, test, classes, name = image_folder(str(tmp_path / "pets"))
    assert (classes, name) == (("ant", "cat", "dog"), "pets")
    assert (train.x.shape, train.x.dtype, train.y.dtype) == ((12, 4, 6, 1), np.uint8, np.int32)
    assert test.y.tolist() == [0, 1, 2]
    read = {(x.tobytes(), classes[y]) for part in (train, test) for x, y in zip(*part, strict=True)}
    assert read == {(image.tobytes(), name) for (name, _), image in pixels.items()}
    np.testing.assert_array_equal(image_folder(str(tmp_path / "pets")).test.x, test.x)
    assert len(image_folder(str(tmp_path / "pets"), test=6).test.y) == 6


def test_train_and_test_folders(tmp_path):
    for part, count in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            for i in range(count):
                pixels = picture(tmp_path / part / name / f"{i}.png", "RGB")
    dataset = image_folder(str(tmp_path))
    assert dataset.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.y.tolist() == [0, 1]
    np.testing.assert_array_equal(dataset.test.x[1], pixels)


def test_grey_among_colour_becomes_rgb(tmp_path):
    grey, colour = picture(tmp_path / "a/0.png", "L"), picture(tmp_path / "a/1.png", "RGB")
    alpha, grey_alpha = picture(tmp_path / "a/2.png", "RGBA"), picture(tmp_path / "a/3.png", "LA")
    train, test, _, _ = image_folder(str(tmp_path), test=1)
    read = {image.tobytes() for part in (train, test) for image in part.x}
    expected = [np.stack([grey] * 3, -1), colour, alpha[..., :3], np.stack([grey_alpha[..., 0]] * 3, -1)]
    assert read == {np.ascontiguousarray(image).tobytes() for image in expected}


def test_grey_with_transparency_is_grey(tmp_path):
    pixels = [picture(tmp_path / f"a/{i}.png", "LA") for i in range(2)]
    train, test, _, _ = image_folder(str(tmp_path), test=1)
    assert {train.x.tobytes(), test.x.tobytes()} == {image[..., 0].tobytes() for image in pixels}


def test_palettes_become_rgb(tmp_path):
    for i in range(2):
        image = Image.fromarray(np.full((4, 6), i, np.uint8)).convert("P")
        image.putpalette([10, 20, 30, 40, 50, 60])
        (tmp_path / "a").mkdir(exist_ok=True)
        image.save(tmp_path / f"a/{i}.png", transparency=b"\x80\x40")
    train, test, _, _ = image_folder(str(tmp_path), test=1)
    assert sorted([train.x[0, 0, 0].tolist(), test.x[0, 0, 0].tolist()]) == [[10, 20, 30], [40, 50, 60]]


def other_size(root):
    picture(root / "a/1.png", size=(5, 4))


def text_file(root):
    (root / "a/notes.txt").write_text("not an image")


def cut_image(root):
    whole = (root / "a/0.png").read_bytes()
    (root / "a/cut.png").write_bytes(whole[: len(whole) - 30])


def sixteen_bits(root):
    Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(root / "a/deep.png")


def bytes_of_png(bits, kind, pixel, size=(6, 4)):
    """A PNG of one colour, as https://www.w3.org/TR/png/ describes it: Pillow writes no colours of 16 bits."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + pixel * size[0]) * size[1]
    header = struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_png_of_8_bits(tmp_path):
    for i in range(2):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / f"a/{i}.png").write_bytes(bytes_of_png(8, 2, bytes([i, 20, 30])))
    train, _, _, _ = image_folder(str(tmp_path), test=1)
    assert train.x[0, 0, 0].tolist()[1:] == [20, 30]


@pytest.mark.parametrize(
    ("kind", "channels", "mode"), [(0, 1, "I;16"), (2, 3, "RGB;16B"), (4, 2, "LA;16B"), (6, 4, "RGBA;16B")]
)
def test_16_bits_a_channel(tmp_path, kind, channels, mode):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0.png").write_bytes(bytes_of_png(16, kind, b"\x12\x34" * channels))
    with pytest.raises(
        DataError, match=rf"0.png has more than 8 bits a channel \(mode {mode}\); convert it to 8"
    ):
        image_folder(str(tmp_path))


def test_16_bits_a_pixel(tmp_path):
    """A BMP of five or six bits a channel is read."""
    for i in range(2):
        (tmp_path / "a").mkdir(exist_ok=True)
        header = struct.pack(
            "<2sIHHI IiiHHIIiiII III", b"BM", 98, 0, 0, 66, 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0, *MASKS
        )
        (tmp_path / f"a/{i}.bmp").write_bytes(header + struct.pack("<H", 0xF800) * 16)
    train, _, _, _ = image_folder(str(tmp_path), test=1)
    assert (train.x == [255, 0, 0]).all()


def nested_folder(root):
    picture(root / "a/inner/0.png")


def empty_class(root):
    (root / "b").mkdir()


def not_utf_8(root):
    picture(root / os.fsdecode(b"caf\xe9") / "0.png")


def third_part(root):
    for part in ("train", "test", "val"):
        picture(root / part / "a/0.png")


def no_test(root):
    picture(root / "train/a/0.png")


def other_case(root):
    picture(root / "Train/a/0.png")
    picture(root / "Test/a/0.png")


def unequal_parts(root):
    picture(root / "train/a/0.png")
    picture(root / "test/a/0.png")
    picture(root / "test/z/0.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_size, r"/a/0.png has 6×4 pixels but .*/a/1.png has 5×4; resize all images to one size"),
        (
            text_file,
            r"/a/notes.txt is not an image that Pillow can read \(UnidentifiedImageError\); remove or",
        ),
        (cut_image, r"/a/cut.png is not an image that Pillow can read \(OSError\)"),
        (sixteen_bits, r"/a/deep.png has more than 8 bits a channel \(mode I;16\); convert it to 8 bits"),
        (nested_folder, "/a/inner is a folder where an image is expected; class folders hold only images"),
        (
            not_utf_8,
            r"the class 'caf\\udce9' of the training part is not text of UTF-8; rename it, or its folder",
        ),
        (third_part, "has class folders in val beside train and test; add those images to train, of which"),
        (no_test, "has class folders in train but no test; expected both train and test, so named, or"),
        (other_case, "has class folders in Test and Train but no train and test; expected both"),
        (empty_class, "the class folder .*/b is empty; add images or remove it"),
        (
            unequal_parts,
            "the class folder 'z' is in only one of train and test of .*; both must have the same",
        ),
    ],
)
def test_bad_folders(tmp_path, damage, message):
    picture(tmp_path / "a/0.png")
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        image_folder(str(tmp_path))


def test_missing_folders(tmp_path):
    with pytest.raises(
        DataError, match=r"there is no folder .*/none; give the path of one that holds a folder"
    ):
        image_folder(str(tmp_path / "none"))
    with pytest.raises(DataError, match="holds no folders; expected a folder of images for each class"):
        image_folder(str(tmp_path))


def test_too_small_a_test_part(tmp_path):
    picture(tmp_path / "a/0.png")
    picture(tmp_path / "b/0.png")
    picture(tmp_path / "b/1.png")
    with pytest.raises(
        ValueError, match="test=1 leaves no example of class 'a', which has 1, in the test part"
    ):
        image_folder(str(tmp_path), test=1)


def test_without_pillow(tmp_path, monkeypatch):
    picture(tmp_path / "a/0.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"image_folder reads images with Pillow; pip install 'fnn\[run\]'"):
        image_folder(str(tmp_path))
