"""Define one command in each file: options and printing only.

alerts.py        alerts list, tail, forward
backtest.py      backtest
bench.py         bench
broker.py        broker
dead_letters.py  dead-letters count, show, redrive; skip
demo.py          demo
demo_life.py     demo-life
drift_worker.py  drift-worker
examples.py      examples
export.py        export
predict.py       predict
produce.py       produce
report.py        report
scorer.py        scorer
topics.py        topics create, check
validate.py      validate
verify.py        verify
model/           commands that make, compare and promote models
"""
