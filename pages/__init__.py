"""What people read: pages as one HTML file each, without scripts and without anything from elsewhere.

Pure: what they show is decided by their arguments, so that the drift worker and the command line say the same.

In the order of use:
    history.py   measurements and alerts → what a page shows of them
    subject.py   features and score, ranked
    words.py     states, reasons and numbers in words
    markup.py    HTML that escapes whatever is not markup of ours
    pictures.py  histograms, statistics and timelines as SVG
    style.py     the style sheet
    pieces.py cards.py overview.py   parts of the page
    drift.py     the page about drift
"""
