"""Make the setup.py of BasicSR 1.4.2 run on Python 3.13 and later.

It executes its version file with a bare ``exec`` and then reads ``locals()['__version__']``, which
fails since PEP 667 (Python 3.13). The Makefile puts this folder on PYTHONPATH only while building
basicsr, so that a bare ``exec`` writes to the caller's variables as before.
"""

import builtins
import sys

if sys.version_info >= (3, 13):
    _exec = builtins.exec

    def _exec_in_caller(code, globals=None, locals=None, /, **options):  # noqa: A002
        if globals is None and locals is None:
            caller = sys._getframe(1)
            globals, locals = caller.f_globals, caller.f_locals  # noqa: A001
        _exec(code, globals, locals, **options)

    builtins.exec = _exec_in_caller
