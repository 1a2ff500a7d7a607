"""`citadel entry update`: changes the fields that are given, and leaves the others."""

from __future__ import annotations

from citadel.api.proto.citadel.v1 import admin_pb2 as admin_pb
from citadel.api.proto.spire.api.types import entry_pb2, selector_pb2
from citadel.cli import documents
from citadel.cli import entry_options as options
from citadel.cli.client import connect
from citadel.cli.entry_view import rows
from citadel.cli.options import ConfigOption, SocketOption
from citadel.cli.output import Format, FormatOption, show_one
from citadel.config import parse_duration
from citadel.errors import InvalidInput
from citadel.registry.selectors import Selector
from citadel.spiffe import SpiffeId, TrustDomain


def update(
    entry_id: options.IdArgument,
    spiffe_id: options.SpiffeIdOption = None,
    parent: options.ParentOption = None,
    selector: options.SelectorOption = None,
    ttl: options.TtlOption = None,
    jwt_ttl: options.JwtTtlOption = None,
    dns: options.DnsOption = None,
    hint: options.HintOption = None,
    expires: options.ExpiresOption = None,
    label: options.LabelOption = None,
    federates_with: options.FederatesOption = None,
    admin: options.AdminOption = None,
    downstream: options.DownstreamOption = None,
    store_svid: options.StoreSvidOption = None,
    config: ConfigOption = None,
    socket: SocketOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Change the fields that are given of one entry.

    A list that is given replaces the old one, and so do labels; an empty word clears: --dns "", --label "",
    --expires "".
    """
    given = options.Given()
    new = entry_pb2.Entry(id=entry_id)
    mask = entry_pb2.EntryMask()
    if one := given.one("--spiffe-id", spiffe_id, SpiffeId.parse):
        new.spiffe_id.CopyFrom(documents.spiffe_id_message(one))
    if one := given.one("--parent", parent, SpiffeId.parse):
        new.parent_id.CopyFrom(documents.spiffe_id_message(one))
    for s in sorted(set(given.many("--selector", selector, Selector.parse))):
        new.selectors.append(selector_pb2.Selector(type=s.type, value=s.value))
    new.x509_svid_ttl = documents.seconds(given.one("--ttl", ttl, parse_duration), "--ttl")
    new.jwt_svid_ttl = documents.seconds(given.one("--jwt-ttl", jwt_ttl, parse_duration), "--jwt-ttl")
    new.dns_names.extend(name for name in dns or () if name)
    new.hint = hint or ""
    moment = given.one("--expires", expires or None, lambda text: options.expiry(text, options.now()))
    new.expires_at = int(moment.timestamp()) if moment else 0
    domains = given.many("--federates-with", filter(None, federates_with or ()), TrustDomain.parse)
    new.federates_with.extend(domain.name for domain in domains)
    labels = dict(given.many("--label", filter(None, label or ()), options.read_label))
    new.admin, new.downstream, new.store_svid = bool(admin), bool(downstream), bool(store_svid)
    given.check()
    touched = {
        "spiffe_id": spiffe_id,
        "parent_id": parent,
        "selectors": selector,
        "x509_svid_ttl": ttl,
        "jwt_svid_ttl": jwt_ttl,
        "dns_names": dns,
        "hint": hint,
        "expires_at": expires,
        "federates_with": federates_with,
        "admin": admin,
        "downstream": downstream,
        "store_svid": store_svid,
    }
    for name, value in touched.items():
        setattr(mask, name, value is not None)
    if label is None and all(value is None for value in touched.values()):
        raise InvalidInput("there is nothing to change", mend="say what, such as --ttl 30m")
    with connect(config, socket) as client:
        details = admin_pb.EntryDetails(entry=new, labels=labels)
        change = admin_pb.UpdateEntriesRequest.Change(details=details, mask=mask, labels=label is not None)
        answer = client.call(client.admin.UpdateEntries, admin_pb.UpdateEntriesRequest(changes=[change]))
        show_one(documents.entry(answer.entries[0]), rows(options.now()), output)
