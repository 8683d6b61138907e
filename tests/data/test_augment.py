import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fnn.data import random_crop, random_flip

KEY = jax.random.key(0)


def images(count=6, height=7, width=5, channels=3, dtype="uint8"):
    """Images whose every pixel is another non-zero number, within the limits of the dtype."""
    numbers = np.random.default_rng(0).integers(1, 255, (count, height, width, channels))
    return numbers.astype(dtype) if dtype != "float32" else (numbers / 255).astype(dtype)


def shift_of(image, crop, padding):
    """The (top, left) of the one window of the padded image that is `crop`, found by trying all."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
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


def test_every_shift_is_as_likely():
    x = np.broadcast_to(images(count=1), (2700, 7, 5, 3))
    y = np.asarray(random_crop(KEY, jnp.asarray(x), padding=1))
    shifts = [shift_of(x[0], crop, 1) for crop in y]
    counts = [shifts.count((top, left)) for top in range(3) for left in range(3)]
    # Binomial counts of mean 300 and deviation 16.
    assert sum(counts) == 2700
    assert min(counts) > 220
    assert max(counts) < 380


def test_crop_without_padding_changes_nothing():
    x = images()
    np.testing.assert_array_equal(random_crop(KEY, jnp.asarray(x), padding=0), x)


def test_each_image_is_mirrored_or_not():
    x = images(count=1000, height=2, width=3, channels=1)
    y = np.asarray(random_flip(KEY, jnp.asarray(x)))
    flipped = [np.array_equal(after, before[:, ::-1]) for before, after in zip(x, y, strict=True)]
    kept = [np.array_equal(after, before) for before, after in zip(x, y, strict=True)]
    assert all(np.logical_or(flipped, kept))
    assert 420 < sum(flipped) < 580  # binomial: 500 ± 16
    assert y.dtype == x.dtype


AUGMENTATIONS = pytest.mark.parametrize("augment", [random_flip, random_crop])


@AUGMENTATIONS
def test_the_key_alone_decides(augment):
    x = jnp.asarray(images(count=64))
    np.testing.assert_array_equal(augment(KEY, x), augment(KEY, x))
    assert not np.array_equal(augment(KEY, x), augment(jax.random.key(1), x))


@AUGMENTATIONS
def test_jit_vmap_and_scan_change_nothing(augment):
    keys = jax.random.split(KEY, 3)
    x = jnp.asarray(
        np.stack([images(dtype="float32"), images(dtype="float32") / 2, images(dtype="float32") / 4])
    )
    expected = np.stack([augment(key, batch) for key, batch in zip(keys, x, strict=True)])
    np.testing.assert_array_equal(jax.jit(jax.vmap(augment))(keys, x), expected)
    _, scanned = jax.lax.scan(lambda carry, pair: (carry, augment(*pair)), None, (keys, x))
    np.testing.assert_array_equal(scanned, expected)


@AUGMENTATIONS
def test_a_sharded_batch_is_augmented_in_place(augment):
    devices = jax.devices()
    x = jnp.asarray(images(count=4 * len(devices)))
    sharding = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
    program = jax.jit(augment, out_shardings=sharding).lower(KEY, jax.device_put(x, sharding)).compile()
    np.testing.assert_array_equal(program(KEY, jax.device_put(x, sharding)), augment(KEY, x))
    assert not any(word in program.as_text() for word in ("all-gather", "all-to-all", "collective-permute"))


@AUGMENTATIONS
def test_only_batches_of_images(augment):
    with pytest.raises(
        ValueError, match=rf"{augment.__name__} takes images, \(N, height, width, channels\), not an"
    ):
        augment(KEY, jnp.zeros((8, 8, 1)))


def test_negative_padding():
    with pytest.raises(ValueError, match="padding must be at least 0, not -1"):
        random_crop(KEY, jnp.zeros((1, 8, 8, 1)), padding=-1)
