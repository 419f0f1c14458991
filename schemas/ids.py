"""Identities of the things that a cluster consists of, and how new ones are made."""

from secrets import token_hex
from typing import NewType

NodeId = NewType("NodeId", str)
ModelId = NewType("ModelId", str)
InstanceId = NewType("InstanceId", str)
RequestId = NewType("RequestId", str)
ApiId = NewType("ApiId", str)
"""One life of one API actor: the branch of `troupe.out` that it listens to."""


def new_node_id() -> NodeId:
    return NodeId(token_hex(4))


def new_instance_id() -> InstanceId:
    return InstanceId(token_hex(4))


def new_request_id() -> RequestId:
    return RequestId(token_hex(12))


def new_api_id() -> ApiId:
    return ApiId(token_hex(4))
