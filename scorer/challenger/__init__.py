"""Run a second model beside the champion, in a split of the customers or in shadow.

split.py     which customers the challenger scores, and its predictions for them
shadow.py    committed events → the challenger's process; what has no room is dropped and counted
protocol.py  requests and responses between the scorer and that process
process.py   that process: events → shadow predictions
"""
