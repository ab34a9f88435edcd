"""`deliv check`: whether what the database says can be, and fits what the stager and FTS say.

It reads page by page, so that millions of jobs need no more memory than a few hundred, beside a
service that goes on working. Without --repair it changes nothing, anywhere.
"""
