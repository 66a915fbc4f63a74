"""Join labels with predictions and measure how good the model was.

label_records.py           predictions and labels as records of the label state
task_facts.py              which facts a task has: as records, and as rows in memory
label_join.py              the rule by which a label belongs to a prediction
label_store.py             the labels and predictions of the horizon
cohorts.py                 joined rows, day by day
cohort_schedule.py         when cohorts are evaluated and handed over: states and transitions
clustered_error.py         the standard error of a metric when customers repeat
multiclass_metrics.py      accuracy, macro and per-class precision, recall, F1, ROC AUC of several classes
regression_metrics.py      MAE, RMSE, bias, R², MAPE; the interval of residuals
any_rows.py                rows of any task, and the influence of each on a metric
classification_metrics.py  accuracy, F1, ROC AUC, Brier score, with intervals
money.py                   what the outcomes of any task are worth
label_free_estimate.py     the same, estimated from scores alone
class_estimate.py          multiclass_metrics.py, estimated from probabilities alone
error_estimate.py          the mean absolute error, estimated from values alone
day_variation.py           how much a metric varies from day to day beyond its error
performance_drop.py        cohorts → PerformanceDrop
"""
