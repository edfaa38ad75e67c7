"""Google's own clients, and Google's discovery documents, against the stand-in
for Google Cloud. Prints "accepted", or fails."""

import base64
import json
import os
import re
import sys

import google.auth.exceptions
import google.auth.transport.requests
import google.oauth2.credentials
import google_crc32c
import googleapiclient
import requests
from google.api_core import exceptions
from google.auth import identity_pool
from google.auth.transport.requests import AuthorizedSession
from google.cloud import secretmanager_v1
from google.oauth2 import service_account

given = json.load(sys.stdin)
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PROJECT = f"projects/{given['project']}"


class Supplier(identity_pool.SubjectTokenSupplier):
    def __init__(self, token):
        self.token = token

    def get_subject_token(self, context, request):
        assert context.audience == given["provider"]
        return self.token


def federated(token, impersonated=None):
    url = None
    if impersonated:
        url = (
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
            f"{impersonated}:generateAccessToken"
        )
    return identity_pool.Credentials(
        audience=given["provider"],
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        token_url="https://sts.googleapis.com/v1/token",
        subject_token_supplier=Supplier(token),
        service_account_impersonation_url=url,
        scopes=[SCOPE],
    )


def client(credentials, endpoint=None):
    options = {"api_endpoint": endpoint} if endpoint else None
    return secretmanager_v1.SecretManagerServiceClient(
        credentials=credentials, transport="rest", client_options=options
    )


def refused(error, action):
    try:
        action()
    except error as refusal:
        return str(refusal)
    raise AssertionError(f"not refused with {error}")


def read(client, name):
    payload = client.access_secret_version(name=name).payload
    assert payload.data_crc32c == google_crc32c.value(payload.data), name
    return payload.data


# --- the secret manager's client, as an administrator with a key

key = service_account.Credentials.from_service_account_info(given["key"], scopes=[SCOPE])
key.refresh(google.auth.transport.requests.Request())
# The client would sign a token of its own instead, which only the real Secret
# Manager takes.
admin_token = google.oauth2.credentials.Credentials(token=key.token)
admin = client(admin_token)
made = admin.create_secret(
    parent=PROJECT,
    secret_id="clients",
    secret={"replication": {"automatic": {}}, "labels": {"team": "trading", "env": "prod"}},
)
assert made.name == f"projects/{given['number']}/secrets/clients", made.name
refused(
    exceptions.Conflict,
    lambda: admin.create_secret(
        parent=PROJECT, secret_id="clients", secret={"replication": {"automatic": {}}}
    ),
)
value = bytes(range(256))
checked = {"data": value, "data_crc32c": google_crc32c.value(value)}
first = admin.add_secret_version(parent=made.name, payload=checked)
assert first.name.endswith("/versions/1") and first.client_specified_payload_checksum
assert first.state == secretmanager_v1.SecretVersion.State.ENABLED
wrong = {"data": value, "data_crc32c": 1}
refused(exceptions.BadRequest, lambda: admin.add_secret_version(parent=made.name, payload=wrong))
refused(
    exceptions.BadRequest,
    lambda: admin.add_secret_version(parent=made.name, payload={"data": b"x" * 65537}),
)
assert read(admin, f"{made.name}/versions/1") == value
admin.add_secret_version(parent=made.name, payload={"data": b"second"})
assert read(admin, f"{made.name}/versions/latest") == b"second"
admin.update_secret(
    secret={"name": made.name, "version_aliases": {"blue": 1}},
    update_mask={"paths": ["version_aliases"]},
)
assert read(admin, f"{made.name}/versions/blue") == value
assert dict(admin.get_secret(name=made.name).version_aliases) == {"blue": 1}
assert [v.name[-1] for v in admin.list_secret_versions(parent=made.name)] == ["2", "1"]
admin.disable_secret_version(name=f"{made.name}/versions/2")
said = refused(exceptions.BadRequest, lambda: read(admin, f"{made.name}/versions/latest"))
assert "DISABLED" in said, said
admin.enable_secret_version(name=f"{made.name}/versions/2")
assert read(admin, f"{made.name}/versions/2") == b"second"
destroyed = admin.destroy_secret_version(name=f"{made.name}/versions/2")
assert destroyed.state == secretmanager_v1.SecretVersion.State.DESTROYED
said = refused(exceptions.BadRequest, lambda: read(admin, f"{made.name}/versions/2"))
assert "DESTROYED" in said, said
refused(exceptions.NotFound, lambda: read(admin, f"{made.name}/versions/9"))
refused(exceptions.NotFound, lambda: read(admin, f"{PROJECT}/secrets/nothing/versions/1"))

for number in range(5):
    admin.create_secret(
        parent=PROJECT,
        secret_id=f"page-{number}",
        secret={"replication": {"automatic": {}}, "labels": {"set": "pages"}},
    )
listed = admin.list_secrets(request={"parent": PROJECT, "filter": "labels.set=pages", "page_size": 2})
pages = [[secret.name.rsplit("/")[-1] for secret in page.secrets] for page in listed.pages]
assert pages == [["page-4", "page-3"], ["page-2", "page-1"], ["page-0"]], pages
both = admin.list_secrets(request={"parent": PROJECT, "filter": "labels.team=trading AND labels.env=prod"})
assert [secret.name for secret in both] == [made.name]

regional = client(admin_token, "secretmanager.europe-west1.rep.googleapis.com")
place = f"{PROJECT}/locations/europe-west1"
regional.create_secret(parent=place, secret_id="regional", secret={})
regional.add_secret_version(parent=f"{place}/secrets/regional", payload={"data": b"in europe"})
assert read(regional, f"{place}/secrets/regional/versions/latest") == b"in europe"
refused(exceptions.BadRequest, lambda: read(admin, f"{place}/secrets/regional/versions/latest"))

# --- the bot, by Workload Identity Federation, and by impersonation

bot = client(federated(given["token"]))
assert read(bot, f"{PROJECT}/secrets/mine/versions/latest") == b"mine"
said = refused(exceptions.Forbidden, lambda: read(bot, f"{PROJECT}/secrets/clients/versions/1"))
assert "secretmanager.versions.access" in said, said
refused(exceptions.Forbidden, lambda: list(bot.list_secrets(parent=PROJECT)))
impersonating = client(federated(given["token"], given["email"]))
assert read(impersonating, f"{PROJECT}/secrets/clients/versions/1") == value
for token in given["bad"]:
    broken = client(federated(token))
    said = refused(
        google.auth.exceptions.GoogleAuthError,
        lambda: read(broken, f"{PROJECT}/secrets/mine/versions/latest"),
    )
    assert "invalid_grant" in said, said
said = refused(
    google.auth.exceptions.RefreshError,
    lambda: read(client(federated(given["token"], given["stranger"])), f"{PROJECT}/secrets/mine/versions/1"),
)
assert "iam.serviceAccounts.getAccessToken" in said, said

# --- the discovery documents

FOLDER = os.path.join(os.path.dirname(googleapiclient.__file__), "discovery_cache", "documents")


def document(name):
    with open(os.path.join(FOLDER, f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def methods(resource):
    for method in resource.get("methods", {}).values():
        yield method["id"], method
    for inner in resource.get("resources", {}).values():
        yield from methods(inner)


FORMATS = {
    "int64": lambda value: isinstance(value, str) and re.fullmatch(r"-?\d+", value),
    "int32": lambda value: isinstance(value, int),
    "byte": lambda value: base64.b64decode(value, validate=True) is not None,
    "google-datetime": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", value),
    "google-duration": lambda value: re.fullmatch(r"\d+(\.\d{1,9})?s", value),
}
TYPES = {"string": str, "boolean": bool, "integer": int, "object": dict, "array": list}


def fits(schemas, schema, value, path):
    if "$ref" in schema:
        schema = {"type": "object", **schemas[schema["$ref"]]}
    kind = schema.get("type", "any")
    if kind == "any":
        return
    assert isinstance(value, TYPES[kind]), f"{path} is no {kind}"
    if schema.get("format") in FORMATS:
        assert FORMATS[schema["format"]](value), f"{path} is no {schema['format']}: {value}"
    if "enum" in schema:
        assert value in schema["enum"], f"{path}: {value}"
    if kind == "array":
        for inner in value:
            fits(schemas, schema["items"], inner, f"{path}[]")
    if kind == "object":
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            assert known, f"{path}.{name} is not in the document"
            fits(schemas, known, inner, f"{path}.{name}")


tried = set()


def call(session, document, identifier, parameters, body=None, **query):
    method = dict(methods(document))[identifier]
    for name in query:
        assert name in method["parameters"] or name in document["parameters"], name
    path = method["path"]
    for name, text in parameters.items():
        path = path.replace("{+" + name + "}", text)
    assert "{" not in path, path
    answer = session.request(method["httpMethod"], document["rootUrl"] + path, json=body, params=query, timeout=20)
    assert answer.headers["content-type"].startswith("application/json")
    content = answer.json()
    if answer.ok:
        fits(document["schemas"], method["response"], content, identifier)
        tried.add(identifier)
    else:
        error = content["error"]
        assert error["code"] == answer.status_code, error
        assert re.fullmatch("[A-Z_]+", error["status"]) and error["message"], error
        assert all("@type" in detail for detail in error["details"]), error
    return content


secrets = document("secretmanager.v1")
session = AuthorizedSession(admin_token)
assert set(map(lambda e: e["location"], secrets["endpoints"])) >= {"europe-west1"}
for prefix, parent, body, root in [
    ("secretmanager.projects.secrets", PROJECT, {"replication": {"automatic": {}}}, secrets["rootUrl"]),
    ("secretmanager.projects.locations.secrets", place, {}, "https://secretmanager.europe-west1.rep.googleapis.com/"),
]:
    api = {**secrets, "rootUrl": root}
    body = {**body, "labels": {"a": "b"}, "annotations": {"c": "d"}}
    name = f"{parent}/secrets/documents"
    call(session, api, f"{prefix}.create", {"parent": parent}, body, secretId="documents")
    payload = {"payload": {"data": base64.b64encode(b"value").decode()}}
    for _ in range(2):
        call(session, api, f"{prefix}.addVersion", {"parent": name}, payload)
    aliases = {"versionAliases": {"blue": "1"}}
    call(session, api, f"{prefix}.patch", {"name": name}, aliases, updateMask="versionAliases")
    got = call(session, api, f"{prefix}.get", {"name": name})
    assert got["versionAliases"] == {"blue": "1"} and got["labels"] == {"a": "b"}
    listed = call(session, api, f"{prefix}.list", {"parent": parent}, fields="secrets(name,labels),nextPageToken")
    assert all(set(secret) <= {"name", "labels"} for secret in listed["secrets"])
    call(session, api, f"{prefix}.list", {"parent": parent}, pageSize=1)
    got = call(session, api, f"{prefix}.versions.access", {"name": f"{name}/versions/blue"})
    assert got["name"].endswith("/secrets/documents/versions/1")
    call(session, api, f"{prefix}.versions.list", {"parent": name})
    call(session, api, f"{prefix}.versions.get", {"name": f"{name}/versions/1"})
    for verb in ["disable", "enable", "destroy"]:
        call(session, api, f"{prefix}.versions.{verb}", {"name": f"{name}/versions/1"}, {})
    assert call(session, api, f"{prefix}.versions.access", {"name": f"{name}/versions/1"})["error"]
    call(session, api, f"{prefix}.delete", {"name": name})
    assert call(session, api, f"{prefix}.get", {"name": name})["error"]["status"] == "NOT_FOUND"
nobody = call(requests, secrets, "secretmanager.projects.secrets.get", {"name": f"{PROJECT}/secrets/mine"})
assert nobody["error"]["status"] == "UNAUTHENTICATED"

sts = document("sts.v1")
exchange = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "audience": given["provider"],
    "scope": SCOPE,
    "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
    "subjectToken": given["token"],
    "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
}
token = call(requests, sts, "sts.token", {}, exchange)["access_token"]
iam = document("iamcredentials.v1")
holder = requests.Session()
holder.headers["authorization"] = f"Bearer {token}"
account = f"projects/-/serviceAccounts/{given['email']}"
wanted = {"scope": [SCOPE], "lifetime": "300s"}
call(holder, iam, "iamcredentials.projects.serviceAccounts.generateAccessToken", {"name": account}, wanted)
assert len(tried) == 26, sorted(tried)
print("accepted")
