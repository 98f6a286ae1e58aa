"""MLServer's custom runtime, as its documentation describes it, around the same ONNX Runtime session as all others."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """Answers a matrix with probabilities."""

    async def load(self) -> bool:
        """Load the model."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(os.environ["BUNDLE"], "model.onnx")  # noqa: PTH118 - pathlib is one import more
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        matrix = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        probabilities = self._session.run(["probabilities"], {self._input: matrix})[0]
        outputs = [NumpyCodec.encode_output("probabilities", probabilities)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
