"""Sends a batch with `mlserver infer`: python speak.py 127.0.0.1:8080."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROW = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0, "body_mass_g": 3750.0}
inputs = [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in ROW.items()]
with tempfile.TemporaryDirectory() as text:
    given, answered = Path(text) / "given", Path(text) / "answered"
    given.write_text(json.dumps({"inputs": inputs}) + "\n")
    tool = [str(Path(sys.executable).with_name("mlserver")), "infer", "--url", sys.argv[1], "--model-name", "penguins"]
    subprocess.run([*tool, "-i", str(given), "-o", str(answered), "--workers", "1"], check=True, capture_output=True)
    [line] = answered.read_text().splitlines()
    found = {one["name"]: one["data"] for one in json.loads(line)["outputs"]}
assert found["label"] == ["Adelie"], found
print("mlserver infer: 1 line answered")
