"""What each traced operation becomes in the graph: ATen in, nodes of the IR out.

:mod:`.aten` walks the traced nodes and calls one handler each, of the table in :mod:`.handlers`:
:mod:`.layers`, :mod:`.arithmetic`, :mod:`.moves`. Where time and batch stand meanwhile: :mod:`.layout`.
An operation that is refused is refused here.
"""
