"""What is handed to others: the sdist and the wheel, what they hold, and that they install.

A package, so that the tests import the builder by one name.
"""
