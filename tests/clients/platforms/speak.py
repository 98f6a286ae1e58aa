"""Sends what Vertex AI and SageMaker send to a container, as their documents describe: python speak.py ADDRESS."""

import sys

import requests

BASE = f"http://{sys.argv[1]}"
ROW = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
LINE = "39.1,18.7,181,3750\n"

# Vertex AI: the routes are those of AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE, one prediction for each instance
assert requests.get(f"{BASE}/v1/endpoints/1", timeout=10).status_code == 200
answer = requests.post(f"{BASE}/v1/endpoints/1:predict", json={"instances": [ROW, ROW], "parameters": {}}, timeout=60)
assert answer.status_code == 200
expected = answer.json()["predictions"][0]["probabilities"]
assert len(answer.json()["predictions"]) == 2
assert max(expected, key=expected.get) == "Adelie"

# SageMaker: a ping within two seconds, then /invocations with the content type that the caller gave
assert requests.get(f"{BASE}/ping", timeout=2).status_code == 200
assert requests.get(f"{BASE}/execution-parameters", timeout=2).json()["BatchStrategy"] == "MULTI_RECORD"
for content_type, body in (
    ("text/csv", LINE * 2),
    ("text/csv", f"{','.join(ROW)}\n{LINE}{LINE}"),
    ("application/json", None),
):
    sent = {"json": {"instances": [ROW, ROW]}} if body is None else {"data": body}
    answer = requests.post(f"{BASE}/invocations", headers={"Content-Type": content_type}, timeout=60, **sent)
    assert [one["probabilities"] for one in answer.json()["predictions"]] == [expected] * 2
headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
lines = requests.post(f"{BASE}/invocations", data=LINE * 2, headers=headers, timeout=60).text.splitlines()
assert [line.split(",")[0] for line in lines] == ["Adelie"] * 2
assert [float(text) for text in lines[0].split(",")[1:4]] == list(expected.values())
bad = requests.post(f"{BASE}/invocations", data="39.1,18.7,181\n", headers=headers, timeout=60)
assert bad.status_code == 400 and " missing: " in bad.json()["message"]
print("Vertex AI and SageMaker: 5 answers, the same bit for bit; 1 refusal")
