"""What a run has found and what it shows, as one page that needs nothing else."""
