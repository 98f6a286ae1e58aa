"""The one door to what computes, XGBoost and ONNX Runtime among it: bytes in, probabilities out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.domain import Feature, FloatMatrix, check_matrix, one_hot
from model.errors import EngineError
from model.manifest import FILES, EngineName
from model.tables import TablesEngine

Probabilities = NDArray[np.float64]
Margins = NDArray[np.float64]

# ONNX Runtime's logarithm and softmax round the tail of a vector otherwise than its body: whole vectors have no tail
VECTOR_BYTES = 64
# says in a model's metadata that it has such nodes though it computes in float; in double every model is taken to
WHOLE_VECTORS = "whole_vectors"


class Engine(Protocol):
    """Computes class probabilities; knows no names, no units."""

    name: str

    def predict(self, matrix: FloatMatrix) -> Probabilities:
        """Return probabilities.

        Args:
            matrix: float32, shape (n, d), columns in manifest order, NaN for null, codes for categories.

        Returns:
            float64, shape (n, k); a row's answer never depends on the other rows.
        """
        ...

    def predict_one(self, row: Sequence[float]) -> list[float]:
        """Return the probabilities of one row, those of `predict` bit for bit.

        Args:
            row: float32 values as Python floats, shape (d,).
        """
        ...


class OnnxEngine:
    """ONNX Runtime on one thread; the graph takes the d columns of the manifest, one-hot included."""

    name = "onnx"

    def __init__(self, payload: bytes, width: int) -> None:
        """Load a compiled model.

        Args:
            payload: the bytes of `model.onnx`, already verified.
            width: d, the number of features.

        Raises:
            EngineError: ONNX Runtime refuses the file, or its input or outputs are not ours.
        """
        # it would tell its maker about every start
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime as ort

        options = ort.SessionOptions()
        # with two threads a row's answer depends on its batch, and a server has one core to give
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = ort.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no public base class below Exception
            raise EngineError(f"ONNX Runtime refuses model.onnx: {str(error)[:200]}") from error
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or inputs[0].shape[1:] != [width] or "probabilities" not in outputs:
            raise EngineError("model.onnx must take one matrix of the manifest's width and give `probabilities`")
        self._input = inputs[0].name
        self._dtype = np.float64 if inputs[0].type == "tensor(double)" else np.float32
        self._is_padded = (
            self._dtype is np.float64 or WHOLE_VECTORS in self._session.get_modelmeta().custom_metadata_map
        )
        self._lanes = VECTOR_BYTES // np.dtype(self._dtype).itemsize
        self._width = width
        self._bind_one_row()

    def _bind_one_row(self) -> None:
        """Bind buffers for one row, used again and again: the most frequent call allocates nothing."""
        self._row = np.zeros((self._lanes if self._is_padded else 1, self._width), dtype=self._dtype)
        try:
            self._answer = self._session.run(["probabilities"], {self._input: self._row})[0]
        except Exception as error:  # see above
            raise EngineError(f"ONNX Runtime cannot compute model.onnx: {str(error)[:200]}") from error
        self._binding, self._lock = self._session.io_binding(), threading.Lock()
        for bind, name, buffer in (
            (self._binding.bind_input, self._input, self._row),
            (self._binding.bind_output, "probabilities", self._answer),
        ):
            bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)

    def predict(self, matrix: FloatMatrix) -> Probabilities:
        """See `Engine.predict`."""
        check_matrix(matrix, self._width)
        if not self._is_padded:
            return np.asarray(self._session.run(["probabilities"], {self._input: matrix})[0], dtype=np.float64)
        n = len(matrix)
        padded = np.zeros((max(-(-n // self._lanes), 1) * self._lanes, self._width), dtype=self._dtype)
        padded[:n] = matrix
        return np.asarray(self._session.run(["probabilities"], {self._input: padded})[0][:n], dtype=np.float64)

    def predict_one(self, row: Sequence[float]) -> list[float]:
        """See `Engine.predict_one`."""
        with self._lock:
            self._row[0] = row
            self._session.run_with_iobinding(self._binding)
            probabilities: list[float] = self._answer[0].tolist()
            return probabilities


class XGBoostEngine:
    """XGBoost itself on one thread, from its own JSON format; also explains."""

    name = "xgboost"

    def __init__(self, payload: bytes, features: Sequence[Feature], class_count: int) -> None:
        """Load a model.

        Args:
            payload: the bytes of `model.json`, already verified.
            features: the manifest's features; categories are one-hot encoded here.
            class_count: k.

        Raises:
            EngineError: XGBoost is not installed, or refuses the file.
        """
        try:
            import xgboost
        except ImportError as error:
            raise EngineError("xgboost is not installed here; serve with ENGINE=onnx or install it") from error
        if not payload:
            raise EngineError("XGBoost refuses model.json: it is empty")  # its loader would end the process
        self._xgboost = xgboost
        self._booster = xgboost.Booster({"nthread": 1})
        try:
            self._booster.load_model(bytearray(payload))
        except (xgboost.core.XGBoostError, UnicodeDecodeError, ValueError, MemoryError) as error:
            raise EngineError(f"XGBoost refuses model.json: {str(error)[:200]}") from error
        self._booster.set_param({"nthread": 1})
        self._features, self._class_count = features, class_count
        width = sum(len(f.values) if f.is_category else 1 for f in features)
        if self._booster.num_features() != width:
            raise EngineError(f"model.json takes {self._booster.num_features()} columns, the manifest gives {width}")

    def predict(self, matrix: FloatMatrix) -> Probabilities:
        """See `Engine.predict`."""
        check_matrix(matrix, len(self._features))
        if not len(matrix):
            return np.empty((0, self._class_count))  # XGBoost's own answer has no columns
        raw = np.asarray(self._booster.inplace_predict(one_hot(self._features, matrix)), dtype=np.float64)
        return np.stack([1 - raw, raw], axis=1) if raw.ndim == 1 else raw

    def predict_one(self, row: Sequence[float]) -> list[float]:
        """See `Engine.predict_one`."""
        probabilities: list[float] = self.predict(np.array([row], dtype=np.float32))[0].tolist()
        return probabilities

    def margins(self, matrix: FloatMatrix) -> Margins:
        """Return raw scores in log-odds, shape (n, k); a binary model's single margin m becomes (-m, m)."""
        check_matrix(matrix, len(self._features))
        raw = np.asarray(
            self._booster.inplace_predict(one_hot(self._features, matrix), predict_type="margin"), dtype=np.float64
        )
        return np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw

    def contributions(self, matrix: FloatMatrix) -> NDArray[np.float64]:
        """Return exact TreeSHAP contributions.

        Returns:
            shape (n, k, d + 1), in log-odds, the base in the last column; they add up to `margins`.

        Source: Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9, as XGBoost's `pred_contribs` computes it.
        """
        check_matrix(matrix, len(self._features))
        data = self._xgboost.DMatrix(one_hot(self._features, matrix), nthread=1)
        raw = np.asarray(self._booster.predict(data, pred_contribs=True), dtype=np.float64)
        if raw.ndim == 2:
            raw = np.stack([-raw, raw], axis=1)
        return _sum_one_hot(self._features, raw)


def load(name: EngineName, files: Mapping[str, bytes], features: Sequence[Feature], class_count: int) -> Engine:
    """Load the named engine from a verified bundle's files.

    Raises:
        EngineError: the bundle has no file for it, or the engine refuses the file.
    """
    loaders: dict[EngineName, Callable[[bytes], Engine]] = {
        "tables": lambda payload: TablesEngine(payload, features, class_count),
        "onnx": lambda payload: OnnxEngine(payload, len(features)),
        "xgboost": lambda payload: XGBoostEngine(payload, features, class_count),
    }
    file, loader = FILES[name], loaders[name]
    if file not in files:
        raise EngineError(f"the bundle has no {file}, so the {name} engine cannot serve it")
    return loader(files[file])


def _sum_one_hot(features: Sequence[Feature], raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the contributions of a category's one-hot columns up to one per feature; the base stays last."""
    widths = [len(f.values) if f.is_category else 1 for f in features]
    starts = np.concatenate([[0], np.cumsum(widths)])
    return np.asarray(np.add.reduceat(raw, starts, axis=2))
