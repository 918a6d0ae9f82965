"""Every kind of image becomes the pixels a person would expect, whatever its file looks like inside."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from kinsight.data import jpeg
from kinsight.data.crops import Crop, evaluation_crop
from kinsight.data.decode import decode, reduced_box, reduction

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)  # 64 x 96


def whole(width, height):
    return Crop(0, 0, width, height)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(data, *, size=64, channels=3, choose=whole):
    image_CHW = decode(data, "x", choose, size=size, channels=channels)
    assert image_CHW.dtype == torch.uint8
    assert image_CHW.shape == (channels, size, size)
    return image_CHW.permute(1, 2, 0).numpy()


def square(channels=3):
    """64 x 64 blocks that a resize to 64 leaves alone."""
    return RGB[:, :64] if channels == 3 else RGB[:, :64, :1]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM"])
def test_lossless_kinds_come_out_exactly(kind):
    image = Image.fromarray(square())
    data = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(pixels(data), square())


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(data) == (255, 0, 0)).all()


def test_gray_and_colour_become_each_other():
    gray = Image.fromarray(square()[:, :, 0])
    np.testing.assert_array_equal(pixels(encoded(gray, "PNG")), square()[:, :, :1].repeat(3, axis=2))
    np.testing.assert_array_equal(pixels(encoded(gray, "PNG"), channels=1), square()[:, :, :1])
    luma = np.asarray(Image.fromarray(square()).convert("L"))
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(square()), "PNG"), channels=1)[:, :, 0], luma)


def test_gray_jpeg_and_the_luma_of_a_colour_jpeg():
    smooth = Image.fromarray(square()).resize((16, 16)).resize((64, 64), Image.Resampling.BICUBIC)
    luma = np.asarray(smooth.convert("L")).astype(int)
    for image in (smooth, smooth.convert("L")):
        got = pixels(encoded(image, "JPEG", quality=95), channels=1)[:, :, 0].astype(int)
        assert np.abs(got - luma).mean() < 2


def test_cmyk_jpeg_is_not_inverted():
    colours = Image.new("RGB", (64, 64), (200, 60, 30))
    got = pixels(encoded(colours.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(got - (200, 60, 30)).max() < 12


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16)[None].repeat(64, 0)
    got = pixels(encoded(Image.fromarray(ramp), "PNG"), channels=1)[:, :, 0]
    np.testing.assert_array_equal(got, np.round(ramp / 257).astype(np.uint8))
    assert pixels(encoded(Image.fromarray(ramp), "TIFF"))[0, -1].tolist() == [255, 255, 255]


def test_one_bit():
    drawing = RGB[:, :64, 0] > 127
    got = pixels(encoded(Image.fromarray(drawing), "PNG"), channels=1)[:, :, 0]
    np.testing.assert_array_equal(got, drawing * 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_pixels_become_white(mode):
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 32:] = 255
    image = Image.new("RGB", (64, 64), (0, 0, 0))
    image.putalpha(Image.fromarray(alpha))
    data = encoded(image if mode == "RGBA" else image.convert(mode), "PNG")
    for channels in (1, 3):
        got = pixels(data, channels=channels)
        assert (got[:, :32] == 255).all()
        assert (got[:, 32:] == 0).all()


def test_half_transparent_is_mixed_with_white():
    data = encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG")
    assert (np.abs(pixels(data).astype(int) - 127) <= 1).all()


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 32, 64))
    got = pixels(encoded(image, "PNG", transparency=0))
    assert (got[:, :32] == (255, 0, 0)).all()
    assert (got[:, 32:] == 255).all()


def upright(orientation):
    """A picture without symmetry and the file's own arrangement of it."""
    shown = Image.fromarray(RGB)
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = shown
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return shown, stored, exif


CORNER = Crop(32, 16, 48, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mirror"), [("PNG", False), ("PNG", True), ("TIFF", False), ("JPEG", False)])
def test_exif_orientation_with_a_crop(orientation, kind, mirror):
    shown, stored, exif = upright(orientation)
    if kind == "JPEG":  # smooth, so that compression changes little
        shown, stored = (image.resize((image.width // 16, image.height // 16)).resize(
            image.size, Image.Resampling.BICUBIC) for image in (shown, stored))  # fmt: skip
    sizes = []

    def choose(width, height):
        sizes.append((width, height))
        return CORNER._replace(mirror=mirror)

    got = pixels(encoded(stored, kind, exif=exif), size=16, choose=choose)
    assert sizes == [shown.size]
    part = shown.crop((32, 16, 80, 48)).resize((16, 16), Image.Resampling.BILINEAR)
    wanted = np.asarray(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else part).astype(int)
    assert np.abs(got - wanted).mean() < (3 if kind == "JPEG" else 1)


def test_damaged_exif_is_no_reason_to_drop_an_image():
    data = bytearray(encoded(Image.fromarray(square()), "JPEG"))
    data[2:2] = b"\xff\xe1\x00\x12Exif\0\0II*\0\xff\xff\xff\xff\0\0"
    pixels(bytes(data))


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_the_quick_jpeg_road_agrees_with_pillow_to_the_bit(monkeypatch, without, subsampling, progressive, gray):
    if without:
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (123, 161, 3), dtype=np.uint8))
    data = encoded(noise.convert("L") if gray else noise, "JPEG", subsampling=subsampling, progressive=progressive)
    header = jpeg.read_header(data)
    assert header is not None
    assert header[:3] == (161, 123, 1)
    assert header.in_rows != progressive
    for channels, mode in ((3, "RGB"), (1, "L")):
        for scale in (1, 2, 4, 8):
            with Image.open(io.BytesIO(data)) as image:
                image.draft(mode, (161 // scale, 123 // scale))
                wanted = np.atleast_3d(np.asarray(image.convert(mode)))
            for bottom in (5, 8, -(-123 // scale)):
                bottom = min(bottom, -(-123 // scale))
                got = jpeg.decode(data, header, scale=scale, bottom=bottom, channels=channels)
                np.testing.assert_array_equal(got[:bottom], wanted[:bottom])


def test_reduction_keeps_the_crop_at_least_as_large_as_the_target():
    rng = np.random.default_rng(2)
    used = set()
    for _ in range(2000):
        left, top, width, height = rng.integers(1, 3000, 4).tolist()
        box = Crop(left, top, width, height)
        scale = reduction(box, 224)
        used.add(scale)
        small = reduced_box(box, scale)
        if scale > 1:
            assert min(small.width, small.height) >= 224
            assert abs(small.left * scale - left) <= scale / 2
            assert abs((small.left + small.width) * scale - (left + width)) <= scale / 2
            assert (small.left + small.width) <= -(-(left + width) // scale)
    assert used == {1, 2, 4, 8}


def test_reduced_decoding_looks_like_full_decoding():
    smooth = Image.fromarray(RGB).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=92)
    got = pixels(data, size=224).astype(float)
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR)).astype(float)
    assert 10 * np.log10(255**2 / np.mean((got - wanted) ** 2)) > 35


def test_small_drawings_are_antialiased():
    drawing = np.zeros((105, 105), bool)
    drawing[:, ::2] = True
    got = pixels(encoded(Image.fromarray(drawing), "PNG"), size=28, channels=1)
    assert np.abs(got.astype(int) - 128).max() < 40  # without a filter it would be 0 or 255


@pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000), (1, 1), (3, 500)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_absurd_shapes(size, kind):
    data = encoded(Image.new("RGB", size, (10, 200, 30)), kind, **({"quality": 95} if kind == "JPEG" else {}))
    for share in (0.875, 1.0):
        got = pixels(data, size=32, choose=lambda w, h, share=share: evaluation_crop(w, h, share)).astype(int)
        assert np.abs(got - (10, 200, 30)).max() <= 6
