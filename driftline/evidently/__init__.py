"""Make a report with Evidently, in a separate environment.

write.py        events and reference → files, and the environment that reads them
environment.py  a virtual environment with pinned requirements
make_report.py  the script that runs in that environment
"""
