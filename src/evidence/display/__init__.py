"""Shows results: progress and tables in a terminal, and plots as PNG files."""
