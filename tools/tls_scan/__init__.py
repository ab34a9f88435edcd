"""What a server's TLS offers, beside what it should: protocols, ciphers, compression and so on."""
