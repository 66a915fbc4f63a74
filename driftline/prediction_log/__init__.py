"""Write predictions with their inputs and labels into files.

export.py   topics → records, resumable
columns.py  a prediction → a row, with the columns of its model's task
parquet.py  records → Parquet
"""
