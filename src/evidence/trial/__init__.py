"""What a user plugs in, tried on a copy before training: what it returns, and whether it is a function of its
noise.
"""
