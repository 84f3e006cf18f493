"""HTTP/1.1 on h11, over sockets of our own: exchanges, TLS, sockets, slots, proxies and the translation of errors."""
