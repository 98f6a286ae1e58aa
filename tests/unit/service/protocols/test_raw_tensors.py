"""Raw bytes of the Open Inference Protocol: lengths and shapes are the caller's word, checked to the byte."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidInstance, TooManyInstances
from service.protocols.tensors import Reader
from tests.unit.service.calls import ADELIE, PLOT, Answered, request

from .ways import by_name, codes, raw_request, tensors

LENGTH = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"
INFER = "/v2/models/penguins/infer"
ROWS = [ADELIE, {**ADELIE, "body_mass_g": 4000}]


def _send(app: Any, body: bytes, length: str | None, path: str = INFER, **more: str) -> Answered:
    return request(app, "POST", path, body, **({} if length is None else {LENGTH: length}), **more)


def _together(kind: str = "FP32", dtype: str = "<f4", rows: int = 2, **changes: Any) -> tuple[bytes, str]:
    """Return all rows in one raw tensor, of which some members are changed, and the length of the JSON part."""
    raw = np.array([list(ADELIE.values())] * rows, dtype).tobytes()
    tensor = {"name": "instances", "shape": [rows, 4], "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [{**tensor, **changes}]}).encode()
    return head + raw, str(len(head))


def _whole() -> tuple[bytes, str]:
    body, headers = raw_request(by_name(ROWS))
    return body, headers[LENGTH]


LENGTHS = {
    "negative": lambda body, n: (body, "-1"),
    "signed": lambda body, n: (body, f"+{n}"),
    "no number": lambda body, n: (body, "all"),
    "empty": lambda body, n: (body, ""),
    "a fraction": lambda body, n: (body, f"{n}.0"),
    "in other digits": lambda body, n: (body, "٣"),
    "hexadecimal": lambda body, n: (body, "0x10"),
    "twice": lambda body, n: (body, f"{n},{n}"),
    "one beyond the body": lambda body, n: (body, str(len(body) + 1)),
    "endless": lambda body, n: (body, "9" * 5000),
    "zero": lambda body, n: (body, "0"),
    "one short": lambda body, n: (body, str(n - 1)),
    "all of the body": lambda body, n: (body, str(len(body))),
    "no header": lambda body, n: (body, None),
}


@pytest.mark.parametrize("change", LENGTHS.values(), ids=LENGTHS)
def test_a_length_that_does_not_fit_is_refused(build, change):
    body, length = _whole()
    answer = _send(build(), *change(body, int(length)))
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert set(codes(answer)) <= {"malformed", "ambiguous"}
    assert codes(answer) != []


def test_one_byte_into_the_raw_part_is_refused(build):
    body, length = _together()
    assert _send(build(), body, length).status == 200
    assert _send(build(), body, str(int(length) + 1)).status == 400


BYTES = {
    "one byte more": (lambda body: body + b"\x00", "unknown"),
    "a row more": (lambda body: body + b"\x00" * 16, "unknown"),
    "one byte less": (lambda body: body[:-1], "missing"),
    "nothing": (lambda body: body[: -2 * 16], "missing"),
}


@pytest.mark.parametrize(("change", "code"), BYTES.values(), ids=BYTES)
def test_raw_bytes_must_be_as_many_as_are_named(build, change, code):
    body, length = _together()
    answer = _send(build(), change(body), length)
    assert (answer.status, codes(answer)) == (400, [code])


SIZES = {
    "no size": ({"parameters": {}}, "missing"),
    "null": ({"parameters": {"binary_data_size": None}}, "missing"),
    "no parameters": ({"parameters": None}, "missing"),
    "parameters that are none": ({"parameters": [32]}, "type"),
    "negative": ({"parameters": {"binary_data_size": -32}}, "type"),
    "a fraction": ({"parameters": {"binary_data_size": 32.0}}, "type"),
    "true": ({"parameters": {"binary_data_size": True}}, "type"),
    "a string": ({"parameters": {"binary_data_size": "32"}}, "type"),
    "more than there is": ({"parameters": {"binary_data_size": 33}}, "missing"),
    "less than there is": ({"parameters": {"binary_data_size": 31}}, "type"),
    "endless": ({"parameters": {"binary_data_size": 10**30}}, "type"),
    "with data beside": ({"data": [0.0] * 8}, "ambiguous"),
    "another datatype": ({"datatype": "FP64"}, "type"),
    "a datatype there is not": ({"datatype": "FP8"}, "type"),
    "booleans": ({"datatype": "BOOL"}, "type"),
    "texts": ({"datatype": "BYTES"}, "type"),
    "half a row": ({"shape": [2, 2]}, "type"),
    "other columns": ({"shape": [4, 2]}, "type"),
    "flat": ({"shape": [8]}, "type"),
    "three dimensions": ({"shape": [1, 2, 4]}, "type"),
    "none": ({"shape": []}, "type"),
    "a negative shape": ({"shape": [-2, -4]}, "type"),
    "an endless shape": ({"shape": [10**18, 4]}, "type"),
    "a shape of strings": ({"shape": ["2", "4"]}, "type"),
    "no shape": ({"shape": None}, "missing"),
    "another name": ({"name": "rows"}, "missing"),
    "no name": ({"name": None}, "missing"),
}


@pytest.mark.parametrize(("changes", "code"), SIZES.values(), ids=SIZES)
def test_what_a_tensor_says_must_fit_its_bytes(build, changes, code):
    answer = _send(build(), *_together(**changes))
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert code in codes(answer)


# around the right number: what a parser of fewer bits, of floats or of other spellings takes for it
OTHERS = [
    *(lambda n, bits=bits: str(2**bits + n) for bits in (31, 32, 53, 63, 64, 128)),
    *(lambda n, bits=bits: str(n - 2**bits) for bits in (31, 32, 64)),
    *(lambda n, form=form: form.format(n) for form in (
        "-{}", "+{}", "0{}", "{}.0", "{}e0", "{}E+0", "0x{:x}", "0o{:o}", "{}_", "{}n", '"{}"', '" {}"', "[{}]", "true",
    )),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("where", ["rows", "columns", "bytes"])
def test_a_number_that_others_might_read_as_another_is_refused(build, other, where):
    body, length = _together()
    head, raw = body[: int(length)].decode(), body[int(length) :]
    number, form = {"rows": (2, "[{}, 4]"), "columns": (4, "[2, {}]"), "bytes": (len(raw), '"binary_data_size": {}')}[
        where
    ]
    assert form.format(number) in head
    changed = head.replace(form.format(number), form.format(other(number))).encode()
    app = build()
    assert _send(app, body, length).status == 200
    assert _send(app, changed + raw, str(len(changed))).status == 400


@pytest.mark.parametrize(
    "form", ["{} ", " {}", "+{}", "-{}", "0{}", "00{}", "{}.0", "{},{}", "0x{:x}", "{}_0", "1{:020}", "{}e0", ""]
)
def test_a_length_of_the_json_part_has_one_spelling(build, form):
    body, length = _together()
    app = build()
    assert _send(app, body, length).status == 200
    assert _send(app, body, form.format(int(length), int(length))).status == 400


@pytest.mark.parametrize("more", [2**31, 2**32, 2**53, 2**63, 2**64, 2**128])
def test_a_length_of_the_json_part_does_not_wrap(build, more):
    body, length = _together()
    app = build()
    assert _send(app, body, length).status == 200
    assert _send(app, body, str(int(length) + more)).status == 400


@pytest.mark.parametrize(("kind", "first"), [("INT64", 2**63), ("UINT64", 2**64), ("INT32", 2**31), ("UINT8", 256)])
def test_the_first_number_that_a_datatype_cannot_hold_is_refused(kind, first):
    def read(value: int) -> object:
        tensor = {"name": "x", "shape": [1], "datatype": kind, "data": [float(value)]}
        return Reader(b"", 10).read(tensor, "/inputs/0").column[0]

    below = first - 1 if first < 2**53 else first - 2**12
    assert read(below) == below
    with pytest.raises(InvalidInstance):
        read(first)


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "JSON"])
@pytest.mark.parametrize("kind", ["BYTES", "FP64", "UINT8"])
def test_too_many_rows_are_refused_before_they_are_read(kind, is_raw):
    size = {"BYTES": 4, "FP64": 8, "UINT8": 1}[kind]

    def read(count: int) -> object:
        tensor: dict[str, object] = {"name": "x", "shape": [count], "datatype": kind}
        if is_raw:
            tensor["parameters"] = {"binary_data_size": count * size}
        else:
            tensor["data"] = (["" if kind == "BYTES" else 0]) * count
        return Reader(bytes(count * size), 100).read(tensor, "/inputs/0")

    assert len(read(100).column) == 100  # type: ignore[attr-defined]
    with pytest.raises(TooManyInstances):
        read(101)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("FP32", "<f4"), ("FP64", "<f8"), ("INT16", "<i2"), ("INT32", "<i4"), ("INT64", "<i8"), ("UINT16", "<u2"),
     ("UINT32", "<u4"), ("UINT64", "<u8")],
)  # fmt: skip
def test_every_datatype_that_holds_the_numbers_gives_the_answer_of_the_numbers(build, kind, dtype):
    app, values = build(), np.array(list(ADELIE.values())).astype(dtype)
    # a narrow float means the shortest decimal that gives it
    row = dict(zip(ADELIE, [float(str(value)) for value in values], strict=True))
    expected = request(app, "POST", "/predict", row).json["probabilities"]
    answer = _send(app, *_together(kind, dtype))
    assert (answer.status, tensors(answer)) == (200, [list(expected.values())] * 2)


def test_bytes_in_another_order_are_no_sensible_numbers(build):
    answer = _send(build(), *_together(dtype=">f4"))
    assert (answer.status, set(codes(answer)) <= {"range", "unit", "ambiguous"}) == (400, True)


def test_raw_and_json_tensors_may_be_mixed(build):
    heads, raws = [], []
    for index, tensor in enumerate(by_name(ROWS)):
        if index % 2:
            heads.append(tensor)
            continue
        raws.append(np.array(tensor["data"], "<f8").tobytes())
        named = {"name": tensor["name"], "shape": [2], "datatype": "FP64"}
        heads.append({**named, "parameters": {"binary_data_size": len(raws[-1])}})
    head = json.dumps({"inputs": heads}).encode()
    app = build()
    expected = tensors(_send(app, json.dumps({"inputs": by_name(ROWS)}).encode(), None))
    assert tensors(_send(app, head + b"".join(raws), str(len(head)))) == expected


def _soils(raw: bytes, count: int = 1) -> tuple[bytes, str]:
    """Return a request whose texts are these bytes."""
    inputs = [
        {"name": name, "shape": [count], "datatype": "FP64", "data": [value] * count}
        for name, value in PLOT.items()
        if name != "soil"
    ]
    named = {"name": "soil", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [*inputs, named]}).encode()
    return head + raw, str(len(head))


def _text(text: bytes, more: int = 0) -> bytes:
    return struct.pack("<I", len(text) + more) + text


TEXTS = {
    "a length beyond the end": (_text(b"clay", more=1), 1, "type"),
    "a length of gigabytes": (b"\xff\xff\xff\xffclay", 1, "type"),
    "a length cut off": (b"\x04\x00", 1, "type"),
    "one too many": (_text(b"clay") * 2, 1, "type"),
    "one too few": (_text(b"clay"), 2, "type"),
    "no bytes": (b"", 1, "type"),
    "bytes after the last": (_text(b"clay") + b"\x00", 1, "type"),
    "not UTF-8": (_text(b"\xff\xfe"), 1, "type"),
    "big-endian": (b"\x00\x00\x00\x04clay", 1, "type"),
    "not on the list": (_text(b"moon"), 1, "range"),
    "empty": (_text(b""), 1, "range"),
}


@pytest.mark.parametrize(("raw", "count", "code"), TEXTS.values(), ids=TEXTS)
def test_raw_texts_are_checked_to_the_byte(build, raw, count, code):
    answer = _send(build("plots"), *_soils(raw, count), path="/v2/models/plots/infer")
    assert (answer.status, codes(answer)) == (400, [code])


def test_raw_texts_are_read(build):
    app = build("plots")
    answer = _send(app, *_soils(_text(b"clay") + _text(b"sand [wet]"), 2), path="/v2/models/plots/infer")
    rows = [PLOT, {**PLOT, "soil": "sand [wet]"}]
    expected = request(app, "POST", "/predict", {"instances": rows}).json["predictions"]
    assert tensors(answer) == [list(one["probabilities"].values()) for one in expected]


def test_a_raw_answer_holds_what_it_says(build):
    head = {"parameters": {"binary_data_output": True}, "outputs": [{"name": "label"}, {"name": "probabilities"}]}
    app = build()
    body, headers = raw_request(by_name(ROWS), **head)
    answer = _send(app, body, headers[LENGTH])
    assert answer.header("content-type") == "application/octet-stream"
    length = int(answer.header("inference-header-content-length") or 0)
    label, probabilities = json.loads(answer.body[:length])["outputs"]
    sizes = [one["parameters"]["binary_data_size"] for one in (label, probabilities)]
    assert length + sum(sizes) == len(answer.body)
    assert answer.body[length : length + sizes[0]] == _text(b"Adelie") * 2
    assert probabilities["shape"] == [2, 3]


def test_whole_numbers_in_json_may_be_written_with_a_fraction_of_zero(build):
    for value, status in ((3750.0, 200), (3750.5, 400), (True, 400)):
        inputs = by_name([ADELIE])
        inputs[0].update(datatype="INT64", data=[value])
        assert inputs[0]["name"] == "body_mass_g"
        assert _send(build(), json.dumps({"inputs": inputs}).encode(), None).status == status
