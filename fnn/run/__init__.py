"""Config files, run directories and the command line."""
