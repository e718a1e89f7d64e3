"""What a metric compiles to: one small module a target."""
