import numpy as np

from fnn.data import digits


def test_what_the_digits_are():
    dataset = digits()
    (x, y), test = dataset.train, dataset.test
    assert (dataset.name, dataset.classes) == ("digits", tuple("0123456789"))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1437, 8, 8, 1), np.uint8, (1437,), np.int32)
    assert (test.x.shape, test.y.shape) == ((360, 8, 8, 1), (360,))
    # The class counts of optdigits.tes, from the documentation of the data set.
    assert np.bincount([*y, *test.y]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(test.y).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


def test_pixels_are_sixteenths_of_full_brightness():
    x = np.concatenate([digits().train.x, digits().test.x])
    assert np.unique(x).tolist() == [round(255 * ink / 16) for ink in range(17)]
    # The mean of the counts, 4.8842 of 16, as published with scikit-learn's copy.
    assert abs(x.mean() / 255 * 16 - 4.8842) < 0.002


def test_no_digit_is_in_both_parts():
    dataset = digits()
    train = {image.tobytes() for image in dataset.train.x}
    assert len(train) == 1437
    assert not train & {image.tobytes() for image in dataset.test.x}


def test_the_test_part_stays_the_same():
    # What it was in version 0.1.0: results on the digits are only comparable on these.
    test = digits().test
    assert test.y[:12].tolist() == [1, 5, 7, 7, 3, 6, 9, 9, 5, 1, 2, 1]
    assert test.x.sum(dtype=np.int64) == 1791540
