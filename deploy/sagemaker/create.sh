#!/bin/sh
# Creates a SageMaker model from the image and a bundle packed with `tar -C bundles/penguins/<hex> -czf model.tar.gz .`.
# SageMaker unpacks it under /opt/ml/model and starts the container with the argument `serve`.
# example: NAME=penguins ROLE=arn:aws:iam::1:role/r IMAGE=… MODEL=s3://bucket/model.tar.gz DIGEST=sha256:… deploy/sagemaker/create.sh
set -eu
: "${NAME:?}" "${ROLE:?}" "${IMAGE:?}" "${MODEL:?}" "${DIGEST:?}"
exec aws sagemaker create-model --model-name "$NAME" --execution-role-arn "$ROLE" --primary-container \
  "Image=$IMAGE,ModelDataUrl=$MODEL,Environment={MODEL_DIGEST=$DIGEST}"
