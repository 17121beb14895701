"""The errors that damaged files raise."""

# What reading a file's content and building something of it raises, whatever the file holds.
CONTENT_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
