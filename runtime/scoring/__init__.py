"""From a metric and the statistics of one matrix to its scores and its mask, fast."""
