"""Before a run starts: the texts that it reads, and the passes, memory and time that it takes."""
