"""The scorer service, in the order a record meets its files.

settings.py  what it can be told
model.py     a verified bundle → a model
direct.py    a fitted pipeline compiled to arrays, and the proof that it gives the same probabilities
pipeline.py  a batch of records → exactly one outcome each (decoding itself is schemas.event)
score.py     columns → probabilities, with poison found by halving
predict.py   an event that somebody asks about → an answer, through the same code
http.py      POST /predict and its description
reload.py    a changed bundle → the next model, or why not
report.py    what happened: log line and counters together
earlier.py   what the output topics say about earlier answers
metrics.py   every series it exports
service.py   the process: work, health, life
"""
