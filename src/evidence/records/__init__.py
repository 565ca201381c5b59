"""What a run leaves on disk: its directory, checkpoints, log-weights and identity, each file whole or not
there.
"""
