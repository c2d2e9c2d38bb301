"""Claims about the file that holds a space, and the halves of a space."""

from dataclasses import replace

import numpy as np
import pytest

from spotwise.errors import InputError
from spotwise.structure.spaces import Space, read_space, write_space


@pytest.mark.parametrize(("halves", "pretrained", "encoder"), [(None, None, None), ((2, 3), False, "UNI")])
def test_a_space_comes_back_as_it_was_written(tmp_path, halves, pretrained, encoder):
    embedding = np.random.default_rng(5).normal(size=(4, 5)).astype(np.float32)
    space = Space(
        embedding, np.array(["ä", "b", "c", "d"], dtype=object), "MicNet", 2, halves, pretrained, encoder=encoder
    )
    write_space(tmp_path / "space.h5", space)
    found = read_space(tmp_path / "space.h5")
    assert (found.embedding == embedding).all()
    assert found.embedding.dtype == np.float32
    assert found.barcode.tolist() == space.barcode.tolist()
    assert (found.name, found.seed, found.halves, found.pretrained) == ("MicNet", 2, halves, pretrained)
    assert found.encoder == encoder


def test_a_space_with_spots_that_are_not_finite_is_refused(tmp_path):
    embedding = np.ones((4, 2))
    embedding[[1, 3], 0] = np.nan, np.inf
    write_space(tmp_path / "space.h5", Space(embedding, np.array(list("abcd"), dtype=object), "MicNet", 0))
    with pytest.raises(InputError, match=r"space.h5: embedding: found 2 of 4 spots not finite, first 'b'"):
        read_space(tmp_path / "space.h5")


def test_the_parts_of_a_space_are_itself_and_the_halves_that_a_model_made():
    space = Space(np.arange(10.0).reshape(2, 5), np.array(["a", "b"], dtype=object), "M", 4, (2, 3), True)
    whole, image, expression = space.parts()
    assert whole is space
    assert [image.name, expression.name] == ["M (image half)", "M (expression half)"]
    np.testing.assert_array_equal(image.embedding, [[0, 1], [5, 6]])
    np.testing.assert_array_equal(expression.embedding, [[2, 3, 4], [7, 8, 9]])
    assert {(part.seed, part.pretrained, *part.barcode) for part in space.parts()} == {(4, True, "a", "b")}
    assert [len(part.parts()) for part in (image, expression, replace(space, halves=None))] == [1, 1, 1]
