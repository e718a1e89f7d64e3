"""Whether two metrics prune alike: keys, fingerprints, proofs and counterexamples."""
