"""Count: facts of a window that add up in any order.

bins.py         a column of the reference → the bins that events are counted in
products.py     sums of products: how features go together
aggregate.py    events → additions to bins; the sketch of customers
watermark.py    panes and watermarks
wire_format.py  counts as bytes, between the stages and for a restart
windows.py      deltas → windows; complete, late
spans.py        windows with too few events → sums with those before them
"""
