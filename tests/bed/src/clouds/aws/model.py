"""Prints what AWS's own service model demands of requests, as JSON: by service
and operation, the input's shape with its bounds."""

import json
import sys

import botocore.session


def shape(of, depth=0):
    told = {"type": of.type_name}
    for bound in ("min", "max"):
        if bound in of.metadata:
            told[bound] = of.metadata[bound]
    if of.type_name == "structure" and depth < 6:
        told["required"] = list(of.required_members)
        told["members"] = {name: shape(member, depth + 1) for name, member in of.members.items()}
    if of.type_name == "list" and depth < 6:
        told["member"] = shape(of.member, depth + 1)
    if of.type_name == "string" and of.enum:
        told["enum"] = list(of.enum)
    return told


def main():
    session = botocore.session.get_session()
    told = {}
    for service in ("secretsmanager", "ssm", "sts"):
        model = session.get_service_model(service)
        told[service] = {
            name: shape(model.operation_model(name).input_shape)
            for name in model.operation_names
            if model.operation_model(name).input_shape is not None
        }
    json.dump(told, sys.stdout)


main()
