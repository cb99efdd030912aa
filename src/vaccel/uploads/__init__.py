"""The agent's side of uploads: resources that arrive in chunks, and are files here."""
