"""Speaks both of KServe's protocols with its own REST client: python speak.py 127.0.0.1:8080."""

import asyncio
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

BASE = f"http://{sys.argv[1]}"
ROW = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0, "body_mass_g": 3750.0}


async def ask():
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await first.infer(BASE, {"instances": [ROW]}, model_name="penguins")
    expected = list(answer["predictions"][0]["probabilities"].values())
    second = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await second.is_server_ready(BASE) and await second.is_model_ready(BASE, "penguins")
    inputs = [InferInput(name, [1], "FP64", [value]) for name, value in ROW.items()]
    answer = await second.infer(BASE, InferRequest("penguins", inputs), model_name="penguins")
    assert {one.name: one.data for one in answer.outputs}["probabilities"] == expected


asyncio.run(ask())
print("kserve: v1 and v2, the same bit for bit")
