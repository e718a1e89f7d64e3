"""The conformance suite: cases as JSON, each a source, inputs and what must come of them; and what runs them."""
