"""The certificate authority: authorities and what they sign. Pure where it can be; its ports are in ca.ports."""
