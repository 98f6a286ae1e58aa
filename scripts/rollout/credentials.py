"""Who we are to Google: the same token that gcloud was given, or Google's default credentials."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google.auth
import google.auth.transport.requests
import google.oauth2.id_token
from google.auth.exceptions import GoogleAuthError
from google.oauth2.credentials import Credentials

# google-auth declares types, but not on these
_session: Any = google.auth.transport.requests.AuthorizedSession
_credentials_of: Any = Credentials
_fetch_identity: Any = google.oauth2.id_token.fetch_id_token

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TOKEN_FILE = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"  # noqa: S105 - gcloud's own variable


class CredentialsError(Exception):
    """There are none, or they are not enough; the text says what to do."""


def session(env: Mapping[str, str]) -> Any:
    """Return a session whose requests carry an access token that is renewed when it expires.

    Args:
        env: `CLOUDSDK_AUTH_ACCESS_TOKEN_FILE` names a file with a token, as for gcloud; without it Google's default
            credentials are taken: a service account on Google Cloud, workload identity in GitHub, a person's own.

    Raises:
        CredentialsError: there are none.
    """
    return _session(_credentials(env))


def _credentials(env: Mapping[str, str]) -> Any:
    if name := env.get(TOKEN_FILE):
        return _credentials_of(token=Path(name).read_text().strip())
    try:
        found, _ = google.auth.default(scopes=SCOPES)
    except GoogleAuthError as error:
        raise CredentialsError("no credentials; run: gcloud auth application-default login") from error
    return found


def identity_token(env: Mapping[str, str], audience: str) -> str:
    """Return a token with which a private service lets us in.

    Args:
        env: as for `session`; gcloud makes no identity token from a token file, so there the token itself is taken.
        audience: the service's URL, which need not be the tag's.

    Raises:
        CredentialsError: neither the default credentials nor gcloud make one.
    """
    if name := env.get(TOKEN_FILE):
        return Path(name).read_text().strip()
    request = google.auth.transport.requests.Request()
    try:
        return str(_fetch_identity(request, audience))
    except GoogleAuthError:
        # a person's credentials make none for an audience, but gcloud's are let in by Cloud Run all the same
        return _from_gcloud()


def _from_gcloud() -> str:
    command = ["gcloud", "auth", "print-identity-token"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise CredentialsError("no identity token for the service; run: gcloud auth login") from error
