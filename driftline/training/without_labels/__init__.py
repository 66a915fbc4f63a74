"""Out-of-fold scores and outcomes → what estimates without labels need, with how far they may be off.

calibration.py        of a binary model; and the shifts by which every band is measured
class_calibration.py  of several classes
error_curve.py        of a regression
"""
