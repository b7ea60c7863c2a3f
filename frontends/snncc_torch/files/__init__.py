"""Files of torch: why one is refused, and what is read of it, never trusting its code.

``.pt``: :mod:`.ptfile` opens it, :mod:`.pickletree` reads its pickle as data, :mod:`.schema` checks every
attribute, :mod:`.checkpoint` takes weights. ``.pt2``: :mod:`.pt2file`, :mod:`.pt2graph`, :mod:`.pt2neurons`.
What a user writes: :mod:`.description` beside a module, :mod:`.exporting` as a graph file.
"""
