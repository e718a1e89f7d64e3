"""What follows from an expression without values: signs, intervals, zeros, usual sizes."""
