"""SDS: secrets for Envoy over xDS: `resources` says what is served, `stream` how, `service` carries it."""
