"""From a clickstream file to rows that are good, duplicate or rejected, each once.

In the order a file goes through: ``landing`` takes it; ``layout`` tells its columns; ``rows`` reads
and judges it, with ``records`` where it has to be taken apart line by line; ``accounts`` says what
became of it.
"""
