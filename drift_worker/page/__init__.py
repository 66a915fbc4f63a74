"""Render pages for people, each one HTML file without scripts and without external resources.

Pure: the arguments determine the page, so the drift worker and the command line show the same.

history.py    measurements and alerts → what a page shows of them
subject.py    features and score, ranked
words.py      states, reasons and numbers in words
markup.py     HTML that escapes every text
svg.py        SVG elements, and a picture as a file
charts.py     histograms, statistics and timelines as SVG
style.py      the style sheet
elements.py   small parts of the page
cards.py      a card for each feature
overview.py   the table of all features
relations.py  the features together
page.py       the page about drift
"""
