"""Intel Loihi through Lava: fixed-point semantics, emission, and the runner of the Lava environment."""
