"""Text: the grammar of `.pzm`, its syntax tree, printer and diagnostics."""
