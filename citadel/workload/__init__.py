"""The node's side: who is at the other end of a socket, what it may be, and the keys and certificates held for it."""
