"""citadel.v1.Authorization: the check API for applications, over gRPC. docs/authorization-api.md is the guide.

`messages` is what goes over the wire as values and back, `askers` who asks and of whom, `service` the calls. It runs on
the node (attested callers) and at the server (operators); both decide by a decision point that they are given.
"""
