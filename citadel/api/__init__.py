"""The server's faces: admin services, the upstream of a node in this process, HTTP for probes and metrics."""
