"""From a module to a traced program: copies, the form of the input, torch.export.

Only copies run (:mod:`.working`). :mod:`.forms` says which axis of the example is time and which the
batch, :mod:`.program` traces with the neurons opaque, :mod:`.fallback` where torch.export gives up.
What a user is told of a module that cannot be traced: :mod:`.failures`.
"""
