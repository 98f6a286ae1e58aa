"""Speaks the Open Inference Protocol with the working group's own client: python speak.py 127.0.0.1:8080."""

import sys

from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest, RequestInput, TensorData

ROW = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0, "body_mass_g": 3750.0}

client = OpenInferenceClient(base_url=f"http://{sys.argv[1]}")
client.check_server_liveness()
client.check_server_readiness()
client.check_model_readiness("penguins")
client.check_model_version_readiness("penguins", "1")
assert client.read_server_metadata().extensions == ["binary_tensor_data"]
assert [t.name for t in client.read_model_metadata("penguins").inputs] == list(ROW)


def request(row):
    inputs = [
        RequestInput(name=name, shape=[1], datatype="FP64", data=TensorData(__root__=[value]))
        for name, value in row.items()
    ]
    return InferenceRequest(id="mine", inputs=inputs)


answer = client.model_infer("penguins", request=request(ROW))
assert answer.id == "mine" and answer.model_version == "1"
assert {one.name: one.data.__root__ for one in answer.outputs}["label"] == ["Adelie"]
for name, row, status in (("penguins", {**ROW, "bill_depth_mm": 1000.0}, 400), ("emus", ROW, 404)):
    try:
        client.model_infer(name, request=request(row))
    except ApiError as error:
        assert error.status_code == status, error
    else:
        raise AssertionError("not refused")
print("open-inference-openapi: 1 answer, metadata and health; 2 refusals")
