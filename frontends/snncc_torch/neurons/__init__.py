"""Which modules are neurons, and which canonical neuron each is.

:mod:`.recognise` finds them by full class name and drives each, and what it says of it, side by side
(:mod:`.following`). How a library's neuron is read stands in the file of its name: :mod:`.sinabs`,
:mod:`.spikingjelly`, :mod:`.own` for :mod:`snncc_torch.nn`. What came of it is a site (:mod:`.sites`).
"""
