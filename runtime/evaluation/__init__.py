"""What a pruned model is worth: perplexity, tasks, comparisons, and what is really zero in it."""
