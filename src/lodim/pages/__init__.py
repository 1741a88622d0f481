"""One way to put an answer on a page: words for numbers, pictures as data, and the HTML they stand in.

A report is a verdict, a strip of key figures, sections with pictures, and what was done to get them. The profile and
the report of :mod:`lodim.trust` fill the same page (:func:`lodim.pages.page.page`) with templates of their own.
"""
