"""Models: loading them, finding their linear layers, running them over windows."""
