"""Safetensors files: what is written reads back through the library, and a damaged file is refused by name."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save_file

from sonde.activations.dealing import Segment
from sonde.errors import ArtifactDamagedError
from sonde.tensor_files import header_bytes, map_arrays, map_matrix, read_header

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int64),
    "c": np.array([7, 8, 9], dtype=np.uint8),
}


def test_a_written_header_is_read_by_the_library():
    header = header_bytes({name: (array.dtype, array.shape) for name, array in ARRAYS.items()})
    assert len(header) % 64 == 0
    found = load(header + b"".join(array.tobytes() for array in ARRAYS.values()))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_the_library_wrote_is_mapped(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(ARRAYS, path, metadata={"step": "12"})
    found, header = map_arrays(path), read_header(path)
    assert header.metadata == {"step": "12"} and found.keys() == header.entries.keys() == ARRAYS.keys()
    data = path.read_bytes()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        entry = header.entries[name]
        assert data[entry.begin : entry.end] == array.tobytes() and entry.shape == array.shape


def test_a_matrix_of_int8_is_its_rows_times_their_scales(tmp_path):
    rows = np.array([[1, -2], [127, 0]], dtype=np.int8)
    scale = np.array([0.5, 2.0], dtype=np.float32)
    save_file({"m": rows, "m.scale": scale, "f": np.eye(2, dtype=np.float32), "n": rows}, tmp_path / "x")
    found = map_matrix(tmp_path / "x", "m")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0.5, -1.0], [254.0, 0.0]])
    np.testing.assert_array_equal(map_matrix(tmp_path / "x", "f"), np.eye(2))
    for name in ("n", "none"):
        with pytest.raises(ArtifactDamagedError, match="cannot be read"):
            map_matrix(tmp_path / "x", name)


def with_header(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00",
        b"\xff" * 100,
        (50).to_bytes(8, "little") + b'{"a": ',
        with_header([1, 2]),
        with_header({"a": 3}),
        with_header({"a": {"dtype": "F32", "shape": [1]}}),
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}),
        with_header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}) + bytes(4),
        with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + bytes(4),
        with_header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + bytes(8),
        with_header({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}) + bytes(8),
        (1 << 19).to_bytes(8, "little") + b"[" * (1 << 19),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, data):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArtifactDamagedError, match=r"broken\.safetensors .*make the artifact again"):
        map_arrays(path)
    with pytest.raises(ArtifactDamagedError, match=r"broken\.safetensors .*make the artifact again"):
        _ = Segment(path).offsets


def test_a_file_that_has_gone_is_named(tmp_path):
    with pytest.raises(ArtifactDamagedError, match=r"gone\.safetensors cannot be read"):
        map_arrays(tmp_path / "gone.safetensors")
