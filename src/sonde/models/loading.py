"""One model is loaded at a time.

While it loads a model, transformers replaces functions of its own and of torch's for the whole process. Two loads at
once, in two threads, put them back in the wrong order: from then on no weights are tied, and heads are random numbers.
"""

import threading

ONE_AT_A_TIME = threading.RLock()
