"""The providers' adapters: what is special about each stands in its file and nowhere else."""
