"""What holds for all tests: properties have no deadline, since machines are shared."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
