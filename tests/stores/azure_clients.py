"""Walks through what the stand-in for Azure serves with Microsoft's clients.

The arguments come on stdin as JSON, so that no token is on a command line.
"""

import json
import sys

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.identity import ClientAssertionCredential, ClientSecretCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient

arguments = json.load(sys.stdin)
common = {
    "authority": arguments["authority"],
    "disable_instance_discovery": True,
    "connection_verify": arguments["ca"],
    "retry_total": 0,
}


def refused(kind, call, part):
    try:
        call()
    except kind as error:
        assert part in str(error), f"{part} is not in {error}"
        return
    raise AssertionError(f"nothing was refused with {part}")


def federated(client, token):
    return ClientAssertionCredential(
        arguments["tenant"], arguments[client], lambda: token, **common
    )


credential = federated("client", arguments["token"])
options = {
    "vault_url": arguments["vault"],
    "credential": credential,
    "connection_verify": arguments["ca"],
    "retry_total": 0,
}
secrets = SecretClient(**options)

first = secrets.set_secret("bot", "one", tags={"team": "a"})
second = secrets.set_secret("bot", "two", content_type="text/plain")
assert secrets.get_secret("bot").value == "two"
assert secrets.get_secret("bot").properties.content_type == "text/plain"
assert secrets.get_secret("bot", first.properties.version).value == "one"
versions = [v.version for v in secrets.list_properties_of_secret_versions("bot")]
assert sorted(versions) == sorted([first.properties.version, second.properties.version])

for number in range(30):
    secrets.set_secret(f"many-{number}", "value")
names = [p.name for p in secrets.list_properties_of_secrets()]
assert len(names) == 32 and "many-29" in names, names

refused(ResourceNotFoundError, lambda: secrets.get_secret("none"), "SecretNotFound")
secrets.update_secret_properties("bot", enabled=False)
refused(HttpResponseError, lambda: secrets.get_secret("bot"), "disabled")
secrets.update_secret_properties("bot", enabled=True)
secrets.begin_delete_secret("bot").wait()
refused(ResourceNotFoundError, lambda: secrets.get_secret("bot"), "SecretNotFound")
assert secrets.get_deleted_secret("bot").name == "bot"
secrets.begin_recover_deleted_secret("bot").wait()
assert secrets.get_secret("bot").value == "two"

key = KeyClient(**options).get_key("signing").key
assert key.kty == "EC" and len(key.x) == 32 and key.d is None
certificate = CertificateClient(**options).get_certificate("tls")
assert bytes(certificate.cer) == b"der" and "/secrets/tls/" in certificate.secret_id
assert secrets.get_secret("tls").properties.content_type == "application/x-pem-file"

by_secret = ClientSecretCredential(
    arguments["tenant"], arguments["client"], arguments["secret"], **common
)
assert SecretClient(**{**options, "credential": by_secret}).get_secret("bot").value == "two"

scope = "https://vault.test/.default"
for call, part in [
    (lambda: federated("stranger", arguments["token"]).get_token(scope), "AADSTS700211"),
    (lambda: federated("client", "x.y.z").get_token(scope), "AADSTS50027"),
    (lambda: federated("client", arguments["token"]).get_token("https://other/.default"), "AADSTS500011"),
]:
    refused(ClientAuthenticationError, call, part)

print("accepted")
