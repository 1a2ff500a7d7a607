"""For all tests: no property test is timed, since a busy machine would make it fail; Ctrl-C reaches what they start."""

import signal

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
signal.signal(signal.SIGINT, signal.default_int_handler)  # below a shell's `&` it is ignored, by all that we start too
