"""The command `pzc`: each command parses options, calls one function below, draws the answer."""
