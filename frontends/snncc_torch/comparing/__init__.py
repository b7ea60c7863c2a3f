"""Whether the graph computes what the module does.

:mod:`.lockstep` runs both and compares layer by layer, on random inputs and on the user's example;
:mod:`.neuroncheck` drives each neuron onto ties, :mod:`.batching` asks whether samples see each other.
"""
