"""Plans a sweep, estimates its time, keeps the notes of its jobs, and prints its table."""
