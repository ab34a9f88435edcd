"""The dummy FTS: FTS3's REST protocol over real GridFTP copies.

It answers as the recorded server does (tests/recordings), keeps its jobs in an SQLite file of its
own and moves the bytes with gfal2, the library that FTS3 itself uses, under the delegated proxy.
"""
