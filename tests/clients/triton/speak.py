"""Speaks the Open Inference Protocol with Triton's own client: python speak.py 127.0.0.1:8080."""

import asyncio
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_async

ADDRESS = sys.argv[1]
ROW = [39.1, 18.7, 181.0, 3750.0]
NAMES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def together(count, *, binary):
    rows = triton.InferInput("instances", [count, 4], "FP32")
    rows.set_data_from_numpy(np.array([ROW] * count, np.float32), binary_data=binary)
    return [rows]


def by_name(*, binary):
    found = []
    for name, value in reversed(list(zip(NAMES, ROW))):
        tensor = triton.InferInput(name, [1], "FP64")
        tensor.set_data_from_numpy(np.array([value]), binary_data=binary)
        found.append(tensor)
    return found


def check(result, count):
    assert result.as_numpy("label").tolist()[0] in (b"Adelie", "Adelie"), result.as_numpy("label")
    assert result.as_numpy("probabilities").shape == (count, 3)
    return result.as_numpy("probabilities").tolist()[0]


client = triton.InferenceServerClient(ADDRESS)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("penguins", "1")
assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
assert [t["name"] for t in client.get_model_metadata("penguins")["inputs"]] == NAMES
found = []
for binary in (True, False):
    for packing in (None, "gzip", "deflate"):
        for inputs, count in ((together(3, binary=binary), 3), (by_name(binary=binary), 1)):
            options = {"request_compression_algorithm": packing, "request_id": "mine"}
            result = client.infer("penguins", inputs, **options)
            assert result.get_response()["id"] == "mine"
            found.append(check(result, count))
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "label")]
        found.append(check(client.infer("penguins", together(2, binary=binary), "1", outputs=outputs), 2))
assert all(one == found[0] for one in found), found
waiting = [client.async_infer("penguins", together(1, binary=True)) for _ in range(4)]
assert [check(one.get_result(), 1) for one in waiting] == [found[0]] * 4
for inputs in (by_name(binary=True)[:3], [*by_name(binary=True), *together(1, binary=True)]):
    try:
        client.infer("penguins", inputs)
    except triton.InferenceServerException as error:
        assert error.status() == "400" and "invalid-instance" in error.message(), error
    else:
        raise AssertionError("not refused")


async def ask():
    async with triton_async.InferenceServerClient(ADDRESS) as other:
        return check(await other.infer("penguins", together(5, binary=True)), 5)


assert asyncio.run(ask()) == found[0]
client.close()
print(f"tritonclient: {len(found) + 5} answers, the same bit for bit; 2 refusals")
