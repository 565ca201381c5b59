"""What a person sees: progress and tables in a terminal, and plots as PNG files."""
