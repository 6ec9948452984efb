"""What holds for all tests: properties have no deadline, and what is started can be stopped.

Where a script starts the tests in the background, the shell has them ignore Ctrl-C. Dagster then
has the process ignore SIGTERM too, as it treats both alike, and so would every process that is
started after that: a broker would be waited for until it is killed.
"""

import signal

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # machines are shared
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
