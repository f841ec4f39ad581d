import builtins
import contextlib
import copyreg
import operator
import os
import pickle
import reprlib
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.datasets import plain_pickle
from geoclick.datasets.plain_pickle import NotPlainError, loads
from geoclick.errors import GeoClickError

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = scalars | st.binary(max_size=5)
members = keys.filter(lambda value: value == value)  # the place of NaN in a set depends on its address
containers = st.recursive(
    keys,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(members, max_size=4)
        | st.frozensets(members, max_size=4)
    ),
    max_leaves=12,
)
old_containers = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(scalars, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(containers, st.sampled_from([4, 5]))
def test_plain_data_comes_out_as_pickle_reads_it(value, protocol):
    data = pickle.dumps(value, protocol)
    assert repr(loads(data)) == repr(pickle.loads(data))


@given(old_containers, st.sampled_from([0, 1, 2, 3]))
def test_plain_data_of_older_protocols(value, protocol):
    """Where sets, and bytes before protocol 3, are no data but calls."""
    data = pickle.dumps(value, protocol)
    assert repr(loads(data)) == repr(pickle.loads(data))


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_shared_stays_shared(protocol):
    inner = ["a"]
    value = {"a": inner, "b": inner, "c": (inner, inner, 1, 2)}
    read = loads(pickle.dumps(value, protocol))
    assert read == value
    assert read["a"] is read["b"] is read["c"][0]
    inner.append(inner)
    read = loads(pickle.dumps(inner, protocol))
    assert read[1] is read


CALLED = []


def canary(*arguments):
    CALLED.append(arguments)


class Reduced:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce_ex__(self, protocol):
        return self.call


class Plain:
    """An object as any library may pickle one."""


EVIL = {
    "a function of its own": (Reduced(canary, 1), "test_plain_pickle.canary"),
    "os.system": (Reduced(os.system, "touch pwned"), "system"),
    "subprocess": (Reduced(subprocess.Popen, ["touch", "pwned"]), "Popen"),
    "eval": (Reduced(builtins.eval, "canary()"), "eval"),
    "exec": (Reduced(builtins.exec, "canary()"), "exec"),
    "import": (Reduced(builtins.__import__, "antigravity"), "__import__"),
    "getattr": (Reduced(getattr, Reduced(builtins.__import__, "os"), "system"), "getattr"),
    "attrgetter": (Reduced(operator.attrgetter, "__class__"), "operator.attrgetter"),
    "bytes of any size": (Reduced(bytes, 1 << 40), "bytes"),
    "copyreg": (Reduced(copyreg._reconstructor, Plain, object, None), "_reconstructor"),
    "an object": (Plain(), "Plain|_reconstructor"),
    "a class": (Plain, "Plain"),
    "a numpy number": (np.float64(1), "numpy"),
    "a numpy array": (np.zeros(3), "numpy"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("value", "name"), EVIL.values(), ids=EVIL)
def test_classes_and_functions_are_refused_by_name(tmp_path, monkeypatch, value, name, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refs.p").write_bytes(pickle.dumps([{"a": value}], protocol))
    with pytest.raises(GeoClickError, match=r"refs\.p is refused: it loads .*" + name):
        plain_pickle.load(tmp_path / "refs.p")
    assert CALLED == []
    assert not (tmp_path / "pwned").exists()


@given(st.lists(old_containers, max_size=3), st.sampled_from(sorted(EVIL)), st.integers(0, 5), st.data())
def test_they_are_refused_wherever_they_are(plain, evil, protocol, data):
    value = EVIL[evil][0]
    for _ in range(data.draw(st.integers(0, 3))):
        value = data.draw(st.sampled_from([[value], (value, 1), {"a": value}, {"b": [0, (value,)]}]))
    plain.insert(data.draw(st.integers(0, len(plain))), value)
    with pytest.raises(NotPlainError):
        loads(pickle.dumps(plain, protocol))
    assert CALLED == []


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "an id" if value == "kept elsewhere" else None


@pytest.mark.parametrize("protocol", range(6))
def test_persistent_ids_are_refused(tmp_path, protocol):
    with (tmp_path / "a.p").open("wb") as file:
        Persistent(file, protocol).dump(["kept elsewhere"])
    with pytest.raises(GeoClickError, match="refers to an object outside the file"):
        plain_pickle.load(tmp_path / "a.p")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"cos\nsystem\n(S'touch pwned'\ntR.", "loads os.system"),
        (b"(S'touch pwned'\nios\nsystem\n.", "loads os.system"),
        (b"\x80\x02c__builtin__\nset\n]\x85R.", "loads __builtin__.set"),
    ],
)
def test_old_ways_to_call_a_function_are_refused(data, words):
    with pytest.raises(NotPlainError, match=words):
        loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x82\x07.",  # EXT1
        b"\x80\x02}}b.",  # BUILD
        b"\x80\x02}(oR.",  # OBJ
        b"\x80\x02})\x81.",  # NEWOBJ
        b"\x80\x02}]R.",  # REDUCE
        b"\x80\x05\x97.",  # NEXT_BUFFER
    ],
)
def test_operations_on_objects_have_no_object(tmp_path, data):
    (tmp_path / "a.p").write_bytes(data)
    with pytest.raises(GeoClickError):
        plain_pickle.load(tmp_path / "a.p")


@given(st.binary(max_size=60))
def test_noise_is_one_kind_of_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "noise.p"
    path.write_bytes(data)
    with contextlib.suppress(GeoClickError):
        plain_pickle.load(path)


@given(containers, st.integers(0, 5), st.data())
def test_so_is_a_pickle_with_a_wrong_byte(tmp_path_factory, value, protocol, data):
    pickled = bytearray(pickle.dumps(value, protocol))
    pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "noise.p"
    path.write_bytes(pickled[: data.draw(st.integers(0, len(pickled)))])
    with contextlib.suppress(GeoClickError):
        plain_pickle.load(path)


def test_texts_of_python_2_are_latin_1():
    assert loads(b"\x80\x02]q\x00(U\x04caf\xe9q\x01T\x04\x00\x00\x00\xfcberX\x02\x00\x00\x00\xc3\xa9e.") == [
        "café",
        "über",
        "é",
    ]
    assert loads(b"(lp0\nS'red car'\np1\naVcaf\xe9\np2\na(dp3\nS'id'\np4\nI7\nsS'n'\nL8L\nsa.") == [
        "red car",
        "café",
        {"id": 7, "n": 8},
    ]


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n", b"r\x0f\0\0\0"])
def test_memo_indices_beyond_the_size_of_the_file_are_refused(put):
    """The unpickler would allocate memory for all smaller ones."""
    with pytest.raises(NotPlainError, match="memo index"):
        loads(b"\x80\x02]" + put + b".")


@pytest.mark.parametrize("code", [b"\x8d", b"\x8e", b"\x96"])
def test_a_length_beyond_the_file_is_broken(code):
    with pytest.raises(ValueError, match="expected"):
        loads(b"\x80\x04" + code + struct.pack("<Q", 1 << 60) + b"a.")


def test_depth_is_no_problem():
    value = loads(b"(" * 200_000 + b"l" * 200_000 + b".")
    assert type(value) is list


@pytest.mark.parametrize(
    "nested",
    [
        b")" + b"2\x86" * 60,
        b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60)),
        b")" + b"".join(b"\x94h%c\x86" % n for n in range(60)),
        b")" + b"".join(b"N0\x94h%c\x86" % n for n in range(60)),
        b"]q\x00q\x000)" + b"".join(b"q\x00h\x00\x86" for n in range(60)),
    ],
    ids=["DUP", "BINPUT", "MEMOIZE", "after POP", "index of a list"],
)
def test_a_tuple_is_used_once(nested):
    """A tuple of a tuple twice, sixty times over, would take 2**60 steps to hash."""
    for data in (b"\x80\x02}" + nested + b"K\x01s.", b"\x80\x04\x8f(" + nested + b"\x90."):
        with pytest.raises(NotPlainError, match="twice"):
            loads(data)


def test_lists_that_contain_a_list_twice_stay_small():
    value = []
    for _ in range(60):
        value = [value, value]
    read = loads(pickle.dumps(value))
    assert read[0] is read[1]
    assert len(reprlib.repr(read)) < 1000


def test_integers_that_python_does_not_print_are_refused():
    assert loads(pickle.dumps(-(2**9000))) == -(2**9000)
    with pytest.raises(NotPlainError, match="an integer of 20001 bits"):
        loads(pickle.dumps(2**20000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"]",
        b"l.",
        b"K\x01a.",
        b"}K\x01a.",
        b"]K\x01K\x02s.",
        b"}(K\x01u.",
        b"h\x01.",
    ],
)
def test_broken_pickles(tmp_path, data):
    (tmp_path / "a.p").write_bytes(data)
    with pytest.raises(GeoClickError, match="is not a complete pickle"):
        plain_pickle.load(tmp_path / "a.p")


def test_files_that_are_not_read(tmp_path, monkeypatch):
    with pytest.raises(GeoClickError, match="cannot be read"):
        plain_pickle.load(tmp_path / "none.p")
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 1 << 20)
    (tmp_path / "a.p").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(GeoClickError, match="larger than 1 MiB"):
        plain_pickle.load(tmp_path / "a.p")
