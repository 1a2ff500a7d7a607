"""ext_authz over TCP by worker processes: Envoys that host Python (pyvoy). See docs/authorization-doors.md.

The server publishes in a folder of its own what they need: settings, registrations, certificates. The policies are what
it keeps as last good: there a set is before it decides anything. `published` is the folder, `envoys` what an Envoy is
told, `app` what runs in it, `port` starts and watches them.
"""
