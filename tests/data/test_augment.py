from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import ndimage, stats

from fnn.data import (
    Visit,
    alternating_flip,
    cutout,
    mixup,
    random_brightness,
    random_contrast,
    random_crop,
    random_flip,
    random_resized_crop,
    random_roll,
    random_rotation,
    random_shift,
    random_vertical_flip,
)
from fnn.data._resample import affine_places, bilinear

KEY = jax.random.key(0)
jitted = cache(jax.jit)
"""One program for each function and shape, whatever the key and the strengths."""


def images(count=6, height=7, width=5, channels=3, dtype="uint8"):
    """Images whose every pixel is another non-zero number, within the limits of the dtype."""
    numbers = np.random.default_rng(0).integers(1, 255, (count, height, width, channels))
    return numbers.astype(dtype) if dtype != "float32" else (numbers / 255).astype(dtype)


def shift_of(image, crop, padding, mode="constant"):
    """The (top, left) of the one window of the padded image that is `crop`, found by trying all."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode)
    height, width, _ = image.shape
    found = [
        (top, left)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        if np.array_equal(padded[top : top + height, left : left + width], crop)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_every_crop_is_a_window_of_the_padded_image(dtype):
    x = images(count=20, dtype=dtype)
    y = random_crop(KEY, jnp.asarray(x), padding=2)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert len({shift_of(image, crop, 2) for image, crop in zip(x, np.asarray(y), strict=True)}) > 5


@pytest.mark.parametrize(
    ("augment", "mode"),
    [(partial(random_crop, padding=1), "constant"), (partial(random_roll, shift=1), "wrap")],
)
def test_every_shift_is_as_likely(augment, mode):
    x = np.broadcast_to(images(count=1), (2700, 7, 5, 3))
    y = np.asarray(jax.jit(augment)(KEY, x))
    shifts = [shift_of(x[0], crop, 1, mode) for crop in y]
    counts = [shifts.count((top, left)) for top in range(3) for left in range(3)]
    # Binomial counts of mean 300 and deviation 16.
    assert sum(counts) == 2700
    assert min(counts) > 220
    assert max(counts) < 380


def test_a_roll_loses_no_pixel_even_beyond_the_image():
    x = images(count=40)
    rolled = np.asarray(jax.jit(partial(random_roll, shift=9))(KEY, x))
    for before, after in zip(x, rolled, strict=True):
        every = [np.roll(before, shift, (0, 1)) for shift in np.ndindex(7, 5)]
        assert sum(np.array_equal(after, one) for one in every) == 1


@pytest.mark.parametrize(
    ("augment", "mirrored"),
    [(random_flip, np.s_[:, ::-1]), (random_vertical_flip, np.s_[::-1])],
)
def test_each_image_is_mirrored_or_not(augment, mirrored):
    x = images(count=1000, height=2, width=3, channels=1)
    y = np.asarray(augment(KEY, jnp.asarray(x)))
    flipped = [np.array_equal(after, before[mirrored]) for before, after in zip(x, y, strict=True)]
    kept = [np.array_equal(after, before) for before, after in zip(x, y, strict=True)]
    assert all(np.logical_or(flipped, kept))
    assert 420 < sum(flipped) < 580  # binomial: 500 ± 16
    assert y.dtype == x.dtype


def alternating(numbers, epoch, key=KEY):
    """Which of the examples are mirrored in an epoch."""
    x = np.tile(np.arange(3.0)[:, None], (len(numbers), 1, 1, 1))
    y = np.asarray(jitted(alternating_flip)(key, x, Visit(numbers, epoch)))
    flipped = np.all(y == x[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(flipped | np.all(y == x, axis=(1, 2, 3)))
    return flipped


def test_successive_epochs_show_both_orientations():
    numbers = np.arange(1000)
    first = alternating(numbers, 0)
    assert 420 < first.sum() < 580  # binomial: 500 ± 16
    assert 420 < (first[1:] == first[:-1]).sum() < 580  # no pattern over the numbers
    for epoch in range(1, 5):
        np.testing.assert_array_equal(alternating(numbers, epoch), first ^ (epoch % 2 == 1))


def test_the_orientation_is_the_examples_own():
    first = alternating(np.arange(100), 0)
    shuffled = np.random.default_rng(0).permutation(100)[:60]
    np.testing.assert_array_equal(alternating(shuffled, 0, jax.random.key(1)), first[shuffled])
    with jax.default_prng_impl("unsafe_rbg"):  # whose draws under vmap depend on the whole batch
        np.testing.assert_array_equal(alternating(shuffled, 0, jax.random.key(1)), first[shuffled])


def test_a_visit_names_every_image():
    with pytest.raises(
        ValueError, match=r"the number of each of 2 images, \(N,\), not visit.example of shape"
    ):
        alternating_flip(KEY, jnp.zeros((2, 8, 8, 1)), Visit(jnp.arange(3), jnp.array(0)))


def test_brightness_adds_one_number_of_its_own_to_each_image():
    x = images(count=2000, height=3, width=2, dtype="float32")
    added = np.asarray(jitted(random_brightness)(KEY, x, delta=0.4)) - x
    np.testing.assert_allclose(np.ptp(added, axis=(1, 2, 3)), 0, atol=3e-7)
    assert_uniform(added[:, 0, 0, 0], -0.4, 0.4)


def test_contrast_scales_the_deviations_from_the_mean():
    x = images(count=2000, height=3, width=2, dtype="float32")
    y = np.asarray(jitted(random_contrast)(KEY, x, delta=0.6))
    mean = x.mean((1, 2, 3), keepdims=True)
    factor = y.std((1, 2, 3), keepdims=True) / x.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, mean + factor * (x - mean), atol=1e-6)
    assert_uniform(factor.ravel(), 0.4, 1.6)


def assert_uniform(numbers, low, high):
    """2000 numbers fill an interval evenly: the largest gap of the empirical distribution is small."""
    assert low <= numbers.min()
    assert numbers.max() <= high
    share = (np.sort(numbers) - low) / (high - low)
    # Kolmogorov-Smirnov: a gap over 1.95 / √2000 has a probability of 0.1 %.
    assert np.abs(share - (np.arange(len(share)) + 0.5) / len(share)).max() < 1.95 / len(share) ** 0.5


@pytest.mark.parametrize("size", [1, 4, 5, 2.5])
def test_cutout_covers_each_pixel_as_often_as_its_square_reaches_it(size):
    x = np.ones((4000, 9, 7, 2), np.float32)
    blank = np.asarray(jitted(cutout)(KEY, x, size=size))[..., 0] == 0
    rows, columns = blank.any(2), blank.any(1)
    np.testing.assert_array_equal(blank, rows[:, :, None] & columns[:, None, :])
    for covered, pixels in ((rows, 9), (columns, 7)):
        whole = covered[~covered[:, 0] & ~covered[:, -1]].sum(1)  # not clipped
        assert set(whole) <= {np.floor(size), np.ceil(size)}
        # The centre lies anywhere on the axis, which reaches half a pixel beyond the outermost centres.
        place = np.arange(pixels)
        reach = np.minimum(place + size / 2, pixels - 0.5) - np.maximum(place - size / 2, -0.5)
        np.testing.assert_allclose(covered.mean(0), reach / pixels, atol=0.03)  # at most 0.5 / √4000 · 4


def test_cutout_leaves_the_rest_alone():
    x = images(count=20)
    y = np.asarray(jitted(cutout)(KEY, x, size=3))
    assert y.dtype == x.dtype
    blank = (y == 0).all(-1, keepdims=True)
    np.testing.assert_array_equal(y, np.where(blank, 0, x))
    assert blank.any((1, 2, 3)).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_weights_of_mixup_are_of_a_beta_distribution(alpha):
    x = np.random.default_rng(0).random((4000, 3), np.float32)
    mixed, partner, weight = map(np.asarray, jitted(mixup)(KEY, x, alpha=alpha))
    assert (partner.dtype, weight.dtype) == ("int32", "float32")
    own = weight[:, None].astype("float64")
    np.testing.assert_allclose(mixed, own * x + (1 - own) * x[partner], atol=1e-6)
    np.testing.assert_array_equal(np.sort(partner), np.arange(4000))
    assert (partner == np.arange(4000)).sum() < 10  # one on average
    assert abs(weight.mean() - 0.5) < 4 * 0.5 / 4000**0.5
    assert abs(weight.var() - 1 / (4 * (2 * alpha + 1))) < 4 * 0.25 / 4000**0.5
    for bound in (0.01, 0.1, 0.3, 0.7, 0.9, 0.99):
        assert abs((weight < bound).mean() - stats.beta.cdf(bound, alpha, alpha)) < 4 * 0.5 / 4000**0.5


def turn(quarters):
    """The matrix that reads an image turned by quarters, and exactly so."""
    return np.round(np.linalg.matrix_power([[0, 1], [-1, 0]], quarters)).astype(np.float32)[None]


@jax.jit
def read(x, matrix, offset):
    places = affine_places(x, matrix.astype(x.dtype), offset.astype(x.dtype))
    return bilinear(x, jnp.broadcast_to(places, (len(x), *places.shape[1:])))


@pytest.mark.parametrize(("size", "quarters"), [(6, 0), (6, 1), (6, 2), (7, 3)])
def test_quarter_turns_are_exact(size, quarters):
    x = images(height=size, width=size, dtype="float32")
    turned = read(x, turn(quarters), np.zeros((1, 2)))
    np.testing.assert_array_equal(turned, np.rot90(x, quarters, axes=(1, 2)))


def test_whole_shifts_are_exact():
    x = images(count=4, dtype="float32")
    offsets = np.array([(0, 0), (2, -1), (-3, 4), (7, 0)])
    padded = np.pad(x, ((0, 0), (7, 7), (7, 7), (0, 0)))
    expected = [image[7 + r : 14 + r, 7 + c : 12 + c] for image, (r, c) in zip(padded, offsets, strict=True)]
    np.testing.assert_array_equal(read(x, np.eye(2)[None], offsets), np.stack(expected))


def test_bilinear_is_scipys_interpolation():
    rng = np.random.default_rng(0)
    x = rng.random((5, 8, 6, 2))
    matrix, offset = rng.normal(size=(5, 2, 2)), 2 * rng.normal(size=(5, 2))
    with jax.enable_x64(True):
        found = np.asarray(read(x, matrix, offset))
    centre = np.array([3.5, 2.5])
    for image, m, o, y in zip(x, matrix, offset, found, strict=True):
        for channel in range(2):
            expected = ndimage.affine_transform(
                image[..., channel], m, o + centre - m @ centre, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(y[..., channel], expected, atol=1e-12)


def places_read(augment, height=12, width=12, count=2000):
    """Where an augmentation reads images that show their own rows and columns, (N, H, W, 2)."""
    shown = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).astype(np.float32)
    x = jnp.broadcast_to(jnp.asarray(shown), (count, *shown.shape))
    return np.asarray(jax.jit(augment)(KEY, x), np.float64), shown


def test_shifts_fill_their_range_evenly():
    y, shown = places_read(partial(random_shift, pixels=2.5))
    inner = (y - shown)[:, 3:-3, 3:-3]
    np.testing.assert_allclose(np.ptp(inner, axis=(1, 2)), 0, atol=1e-5)
    shifts = inner[:, 0, 0]
    assert_uniform(shifts[:, 0], -2.5, 2.5)
    assert_uniform(shifts[:, 1], -2.5, 2.5)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 4 / 2000**0.5


def test_rotations_fill_their_range_evenly():
    y, shown = places_read(partial(random_rotation, degrees=30))
    around, centred = (a[..., 4:8, 4:8, :] - 5.5 for a in (y, shown))
    angle = np.arctan2(around[..., 0], around[..., 1]) - np.arctan2(centred[..., 0], centred[..., 1])
    angle = np.rad2deg((angle + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_allclose(np.ptp(angle, axis=(1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(
        np.linalg.norm(around, axis=-1), np.linalg.norm(centred, axis=-1) + np.zeros((2000, 1, 1)), atol=1e-5
    )
    assert_uniform(angle[:, 0, 0], -30, 30)


def test_resized_crops_are_windows_of_random_area_aspect_and_place():
    scale, ratio, height, width = 0.3, 1.5, 12, 20
    y, _ = places_read(partial(random_resized_crop, scale=scale, ratio=ratio), height=height, width=width)
    np.testing.assert_allclose(np.ptp(y[..., 0], axis=2), 0, atol=1e-5)  # rows depend on rows alone
    np.testing.assert_allclose(np.ptp(y[..., 1], axis=1), 0, atol=1e-5)
    shares, tops = [], []
    for places, pixels in ((y[:, :, 0, 0], height), (y[:, 0, :, 1], width)):
        # The slope in the middle, where nothing is cut off at the border of the image.
        share = places[:, pixels // 2] - places[:, pixels // 2 - 1]
        top = places[:, pixels // 2] + 0.5 - (pixels // 2 + 0.5) * share  # where the window begins
        steps = top[:, None] + (np.arange(pixels) + 0.5) * share[:, None] - 0.5
        np.testing.assert_allclose(places, np.clip(steps, 0, pixels - 1), atol=1e-4)
        assert top.min() > -1e-4
        assert (top + share * pixels).max() < pixels + 1e-4
        shares.append(share)
        tops.append((top, pixels * (1 - share)))
    rows, columns = shares
    fits = np.maximum(rows, columns) < 0.999
    uncut = np.sqrt(scale * np.array([1 / ratio, ratio])) < 1
    assert uncut.all()
    assert (rows * columns).min() > scale - 1e-4
    assert np.abs(np.log(columns / rows)[fits]).max() < np.log(ratio) + 1e-3
    for top, room in tops:
        assert_uniform(top[fits] / room[fits], -1e-3, 1 + 1e-3)
    # Small windows always fit: half of the areas below 0.3 + 0.7 x are below 0.3 + 0.35 x; log r is uniform.
    small = rows * columns < 1 / ratio
    assert abs(small.mean() - (1 / ratio - scale) / (1 - scale)) < 4 * 0.5 / 2000**0.5
    spread = np.log(columns / rows)[small] / np.log(ratio)
    assert_uniform(spread, -1, 1)
    area = (rows * columns)[small]
    assert_uniform(area, scale, 1 / ratio)


EVERY = {
    "flip": (random_flip, {}),
    "vertical flip": (random_vertical_flip, {}),
    "crop": (random_crop, {"padding": 0}),
    "roll": (random_roll, {"shift": 0}),
    "brightness": (random_brightness, {"delta": 0.0}),
    "contrast": (random_contrast, {"delta": 0.0}),
    "cutout": (cutout, {"size": 0.0}),
    "mixup": (mixup, {"alpha": 0.0}),
    "resized crop": (random_resized_crop, {"scale": 1.0, "ratio": 1.0}),
    "rotation": (random_rotation, {"degrees": 0.0}),
    "shift": (random_shift, {"pixels": 0.0}),
}
FLOATS_ONLY = [
    augment for augment, none in EVERY.values() if any(isinstance(v, float) for v in none.values())
]
FLOATS_ONLY.remove(cutout)


@pytest.mark.parametrize(("augment", "none"), [case for case in EVERY.values() if case[1]])
def test_no_strength_changes_nothing(augment, none):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).random((2, 7, 4, 3)))
        y = jax.jit(partial(augment, **none))(KEY, x)
        if augment is mixup:
            np.testing.assert_array_equal(y.weight, 1)
            assert y.weight.dtype == "float32"
            y = y.x
        assert y.dtype == "float64"
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    ("augment", "none"),
    [case for case in EVERY.values() if any(isinstance(v, float) for v in case[1].values())],
)
def test_one_program_serves_every_strength_and_none(augment, none):
    strengths = {name: jnp.array([value, {"ratio": 1.3}.get(name, 0.9)]) for name, value in none.items()}
    x = jnp.asarray(images(dtype="float32"))
    population = jax.jit(jax.vmap(lambda strengths: augment(KEY, x, **strengths)))(strengths)
    first, second = (jax.tree.map(lambda y, i=i: y[i], population) for i in range(2))
    np.testing.assert_array_equal(first.x if augment is mixup else first, x)
    expected = jax.jit(augment)(KEY, x, **{name: values[1] for name, values in strengths.items()})
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), second, expected)
    assert not np.array_equal(jax.tree.leaves(second)[0], x)


@pytest.mark.parametrize("augment", FLOATS_ONLY)
def test_bytes_have_to_become_floats_first(augment):
    with pytest.raises(
        TypeError, match=f"{augment.__name__} takes floats, such as fnn.to_float .*, not uint8"
    ):
        augment(KEY, jnp.zeros((1, 8, 8, 1), "uint8"))


@pytest.mark.parametrize("augment", FLOATS_ONLY)
def test_half_precision_draws_the_same_numbers(augment):
    x = inputs(augment).astype("bfloat16")
    narrow, wide = jitted(augment)(KEY, x), jitted(augment)(KEY, x.astype("float32"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.astype("float32"), b, atol=0.01), narrow, wide)
    assert jax.tree.leaves(narrow)[0].dtype == jnp.bfloat16


AUGMENTATIONS = pytest.mark.parametrize("augment", [augment for augment, _ in EVERY.values()])


def inputs(augment):
    count = 4 * len(jax.devices())
    return images(count=count, dtype="float32" if augment in FLOATS_ONLY else "uint8")


@AUGMENTATIONS
def test_the_key_alone_decides(augment):
    x = inputs(augment)
    first, again, other = (jax.tree.leaves(jitted(augment)(key, x)) for key in (KEY, KEY, jax.random.key(1)))
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, different)


@AUGMENTATIONS
def test_vmap_and_scan_change_nothing(augment):
    keys, x = jax.random.split(KEY, (2, 2)), inputs(augment)
    x = np.stack([np.stack([x, x[::-1]]), np.stack([x[:, ::-1], x[:, :, ::-1]])])
    _, found = jax.lax.scan(lambda carry, pair: (carry, jax.vmap(augment)(*pair)), None, (keys, x))
    for place in np.ndindex(2, 2):
        expected = jitted(augment)(keys[place], x[place])
        jax.tree.map(
            lambda y, e, at=place: np.testing.assert_allclose(y[at], e, rtol=1e-5, atol=1e-5), found, expected
        )


@AUGMENTATIONS
def test_a_sharded_batch_is_augmented_in_place(augment):
    devices = jax.devices()
    x = inputs(augment)
    sharding = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
    program = jax.jit(augment, out_shardings=sharding).lower(KEY, jax.device_put(x, sharding)).compile()
    found, expected = program(KEY, jax.device_put(x, sharding)), jitted(augment)(KEY, x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)
    # Only mixup needs what lies on other devices.
    assert augment is mixup or not any(
        word in program.as_text() for word in ("all-gather", "all-to-all", "collective-permute")
    )


@pytest.mark.parametrize("augment", [augment for augment, _ in EVERY.values() if augment is not mixup])
def test_only_batches_of_images(augment):
    with pytest.raises(
        ValueError, match=rf"{augment.__name__} takes images, \(N, height, width, channels\), not an"
    ):
        augment(KEY, jnp.zeros((8, 8, 1)))


@pytest.mark.parametrize(
    ("augment", "settings", "message"),
    [
        (random_crop, {"padding": -1}, "random_crop's padding must be at least 0, not -1"),
        (random_roll, {"shift": -2}, "random_roll's shift must be at least 0, not -2"),
        (random_brightness, {"delta": -0.1}, "random_brightness's delta must be at least 0, not -0.1"),
        (
            random_contrast,
            {"delta": 1.5},
            "random_contrast's delta must be at least 0 and at most 1, not 1.5",
        ),
        (cutout, {"size": -1}, "cutout's size must be at least 0, not -1"),
        (mixup, {"alpha": float("nan")}, "mixup's alpha must be at least 0, not nan"),
        (
            random_resized_crop,
            {"scale": 0},
            "random_resized_crop's scale must be above 0 and at most 1, not 0",
        ),
        (random_resized_crop, {"ratio": 0.5}, "random_resized_crop's ratio must be at least 1, not 0.5"),
        (random_rotation, {"degrees": -5}, "random_rotation's degrees must be at least 0, not -5"),
        (random_shift, {"pixels": -1}, "random_shift's pixels must be at least 0, not -1"),
    ],
)
def test_a_strength_outside_its_range(augment, settings, message):
    with pytest.raises(ValueError, match=message):
        augment(KEY, jnp.zeros((1, 8, 8, 1)), **settings)


@pytest.mark.parametrize(
    ("augment", "name"),
    [
        (random_brightness, "delta"),
        (cutout, "size"),
        (mixup, "alpha"),
        (random_resized_crop, "ratio"),
        (random_rotation, "degrees"),
        (random_shift, "pixels"),
    ],
)
def test_an_infinite_strength(augment, name):
    with pytest.raises(ValueError, match=f"{augment.__name__}'s {name} must be below inf, not inf"):
        augment(KEY, jnp.zeros((1, 8, 8, 1)), **{name: float("inf")})


@pytest.mark.parametrize(("augment", "name"), [(random_crop, "padding"), (random_roll, "shift")])
@pytest.mark.parametrize("pixels", [1.5, "2", None])
def test_whole_pixels(augment, name, pixels):
    with pytest.raises(TypeError, match=f"{augment.__name__}'s {name} must be an integer, not {pixels!r}"):
        augment(KEY, jnp.zeros((1, 8, 8, 1)), **{name: pixels})


def test_a_schedule_is_evaluated_before():
    with pytest.raises(TypeError, match="random_shift's pixels must be a number or a scalar array here"):
        random_shift(KEY, jnp.zeros((1, 8, 8, 1)), pixels=lambda step: step)
