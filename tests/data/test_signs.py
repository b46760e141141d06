import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dualdnn.data.signs import MISSING, signs_of


def signs(field, values):
    return signs_of(field, tf.constant(values, tf.string)).numpy()


# Another implementation, pyfarmhash.fingerprint64(field + "\x1f" + value), gives the same numbers.
# If one changes, every encoded day, checkpoint and exported model of the past is void.
@pytest.mark.parametrize(("field", "value", "sign"), [
    ("user_id", "1", 7637790705642753878),
    ("item_id", "1", -3252688994206285439),
    ("user_id", "ann", -5210785417182994803),
    ("city", "Zürich", -700204765288384479),
    ("city", "a\nb", 6433525354642725974),
    ("city", "x" * 10_000, 6547079940178210542),
])
def test_signs_never_change(field, value, sign):
    assert signs(field, [value]).tolist() == [sign]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1))
def test_a_sign_is_the_fingerprint_of_field_separator_and_value(values):
    joined = [f"city\x1f{value}" for value in values]
    expected = tf.bitcast(tf.fingerprint(tf.constant(joined)), tf.int64).numpy()
    np.testing.assert_array_equal(signs("city", values), expected)


def test_the_field_matters():
    assert signs("user_id", ["1"]) != signs("item_id", ["1"])


def test_field_and_value_cannot_be_confused():
    # Joined without the separator, both would read "user_id1".
    assert signs("user_id", ["1"]) != signs("user_i", ["d1"])


def test_the_empty_string_is_missing():
    assert MISSING == 0
    assert signs("city", ["", "a", ""]).tolist() == [0, int(signs("city", ["a"])[0]), 0]


def test_what_looks_missing_is_a_value():
    found = signs("city", [" ", "\0", "0", "null", "None", "nan", "\n"])
    assert len(set(found.tolist())) == 7
    assert MISSING not in found


def test_values_that_a_text_file_or_a_c_string_would_confuse_differ():
    values = ["a", "a\n", "a\n\n", "\na", "a\r\n", "a\0", "a\0b", "a ", "A", "á", "a\u0301",
              "a\x1f"]
    assert len(set(signs("city", values).tolist())) == len(values)


def test_long_values_that_differ_at_the_end_differ():
    values = ["x" * 10**6 + end for end in "ab"]
    assert len(set(signs("city", values).tolist())) == 2


def test_the_shape_of_the_values_does_not_matter():
    flat = signs("city", ["a", "", "b", "c", "d", ""])
    np.testing.assert_array_equal(signs("city", [["a", "", "b"], ["c", "d", ""]]),
                                  flat.reshape(2, 3))
    assert signs_of("city", tf.constant("a")).numpy() == flat[0]
    assert signs("city", []).shape == (0,)


def test_bytes_and_text_are_the_same():
    np.testing.assert_array_equal(signs("city", ["Zürich"]), signs("city", ["Zürich".encode()]))


def test_inside_a_graph_the_signs_are_the_same():
    graph = tf.function(lambda values: signs_of("city", values),
                        input_signature=[tf.TensorSpec((None, None), tf.string)])
    values = tf.constant([["a", "é", ""], ["b\n", "", ""]])
    np.testing.assert_array_equal(graph(values), signs_of("city", values))
