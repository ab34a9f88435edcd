"""A small issuer of OAuth2 access tokens: the client credentials grant, and nothing else."""
