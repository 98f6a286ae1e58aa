#!/bin/sh
# Uploads the image and a bundle as a Vertex AI model; Vertex AI sets AIP_* itself.
# example: PROJECT=my-project REGION=europe-west1 IMAGE=… BUNDLE_URI=gs://bucket/penguins/<digest> DIGEST=sha256:… deploy/vertex/upload.sh
set -eu
: "${PROJECT:?}" "${REGION:?}" "${IMAGE:?}" "${BUNDLE_URI:?}" "${DIGEST:?}"
exec gcloud ai models upload --project="$PROJECT" --region="$REGION" --display-name="${NAME:-penguins}" \
  --container-image-uri="$IMAGE" --container-ports=8080 --artifact-uri="$BUNDLE_URI" \
  --container-env-vars="MODEL_DIGEST=$DIGEST"
