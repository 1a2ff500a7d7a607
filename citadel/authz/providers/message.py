"""A request as a provider reads it (envoy.service.auth.v3.CheckRequest), as an Envoy would have sent it. Pure."""

from __future__ import annotations

from envoy.config.core.v3 import address_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2

from citadel.authz.request import HttpRequest, IpAddress, Request


def check_request(request: Request) -> external_auth_pb2.CheckRequest:
    """All of it but metadata. Header values are joined by commas, and what is not UTF-8 becomes `!`, as by Envoy."""
    message = external_auth_pb2.CheckRequest()
    attributes = message.attributes
    _address(attributes.source.address, request.remote_ip or request.source_ip, None)
    if request.peer is not None:
        attributes.source.principal = request.peer.uri
    _address(attributes.destination.address, request.destination_ip, request.port)
    if request.sni:
        attributes.tls_session.sni = text(request.sni)
    if request.http is not None:
        _http(attributes.request.http, request.http)
    return message


def text(value: str) -> str:
    """Without what protobuf cannot carry."""
    return (
        value
        if value.isascii()
        else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "!")
    )


def _http(message: attribute_context_pb2.AttributeContext.HttpRequest, http: HttpRequest) -> None:
    message.method, message.path, message.host = text(http.method), text(http.path), text(http.authority or "")
    message.protocol = "HTTP/1.1"
    message.size = -1
    for name, values in http.headers.items():
        message.headers[name] = text(",".join(values))
    message.headers[":method"], message.headers[":path"] = message.method, message.path
    message.headers[":authority"] = message.host


def _address(message: address_pb2.Address, ip: IpAddress | None, port: int | None) -> None:
    if ip is not None:
        message.socket_address.address = str(ip)
    if port is not None:
        message.socket_address.port_value = port
