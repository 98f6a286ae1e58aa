"""Sends batches with Triton's own client for some seconds; runs in MLServer's environment, which holds it.

    python load/peers/triton.py ADDRESS TENSOR ROWS.npy SECONDS CONNECTIONS raw|json

prints a line of JSON: answers, seconds, probabilities.
"""

import json
import sys
import time

import gevent
import numpy as np
import tritonclient.http as triton


def main(address: str, name: str, path: str, seconds: float, connections: int, form: str) -> None:
    """Ask over so many connections, one request after the other on each, and read every answer.

    The client's own `async_infer` sleeps 10 ms in every call, so that no server could be told from another.
    """
    rows, is_raw = np.load(path), form == "raw"
    tensor = triton.InferInput(name, list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=is_raw)
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=is_raw)]
    found = []
    with triton.InferenceServerClient(address, concurrency=connections) as client:
        began = time.perf_counter()

        def ask() -> int:
            answers = 0
            while time.perf_counter() - began < seconds:
                # raises where it is refused
                found[:] = [client.infer("penguins", [tensor], outputs=outputs).as_numpy("probabilities")]
                answers += 1
            return answers

        asking = [gevent.spawn(ask) for _ in range(connections)]
        answers = sum(one.get() for one in asking)
        spent = time.perf_counter() - began
    print(json.dumps({"answers": answers, "seconds": spent, "probabilities": found[0].tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
