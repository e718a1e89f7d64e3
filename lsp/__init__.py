"""Editors: what a language server answers, as plain functions of a text, and the server."""
