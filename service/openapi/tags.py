"""The groups that the document sorts its operations into."""

from __future__ import annotations

from service.openapi.parts import Paths

PREDICT = "Predict"
FEEDBACK = "Feedback"
MODEL = "Model"
HEALTH = "Health"
METRICS = "Metrics"
ABOUT = "About"
V2 = "Open Inference Protocol"
V1 = "KServe v1"
INVOCATIONS = "MLflow and SageMaker"
VERTEX = "Vertex AI"

# in the order in which they are shown
TEXTS = {
    PREDICT: "Ask the model: one instance or a batch, with its probabilities, its doubts and its reasons",
    FEEDBACK: "Tell what turned out to be true, so that quality can be measured",
    MODEL: "What is served, how good it is, and whether the traffic still looks like what it learned from",
    HEALTH: "Whether the process works, and whether it may be sent requests",
    METRICS: "What has been counted, for Prometheus",
    ABOUT: "What runs here, and this document",
    V2: "The same answers for clients of KServe v2, Triton and MLServer",
    V1: "The same answers for clients of KServe's first protocol and of TensorFlow Serving",
    INVOCATIONS: "The same answers for clients of MLflow's scoring server and for SageMaker's containers",
    VERTEX: "The same answers where Vertex AI sends its requests",
}


def used(paths: Paths) -> list[dict[str, str]]:
    """Return the groups of some paths with their descriptions, in the order in which they are shown."""
    names = {tag for operations in paths.values() for operation in operations.values() for tag in operation["tags"]}
    return [{"name": name, "description": text} for name, text in TEXTS.items() if name in names]
