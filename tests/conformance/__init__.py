"""Autobahn's wstest against the server and the client of uvws; `make autobahn` runs all of it.

wstest runs under Python 2.7 in a process of its own, and so does what it tests.
"""
