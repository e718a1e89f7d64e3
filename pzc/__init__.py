"""pzc: the language, compiler, runtime and search engine for pruning metrics."""
