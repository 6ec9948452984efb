"""From a file that someone else wrote to rows that are good, duplicate or rejected, each once.

In the order a file goes through: ``landing`` takes it; ``source`` unpacks it (with
``json_bars`` for JSON); ``files`` tells its columns, ``times`` and ``numerals`` how it writes them;
``rows`` reads it and ``judging`` says why a row is no good; ``intervals`` tells how
long its bars are; ``duplicates`` sorts the rows; ``accounts`` says what became of them.
"""
