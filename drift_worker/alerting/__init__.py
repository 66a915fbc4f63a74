"""Decide which numbers are an alert.

significance.py     how small a p-value must be, from a budget of false alerts
limits.py           what is too much: the limits, and a policy of them
relation_change.py  relations → which moved too far, and how surely
findings.py         measurements → findings
reference_fit.py    whether the reference fits the stream at all, by a table
confirmation.py     findings → states, by a table: k of n windows open an episode, three clean ones end it
episodes.py         states → alerts
message.py          an alert's texts and evidence
"""
