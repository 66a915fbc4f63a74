"""Write predictions with their inputs and labels into files.

export.py   topics → records, resumable
parquet.py  records → Parquet
"""
