"""SDS: secrets for Envoy over xDS. What is served stands in `resources`, how in `stream`, the transport in `service`."""
