"""The protocol documents and their vectors."""
