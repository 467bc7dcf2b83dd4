"""Runs a module's tests, and says in the end how many there were as other runners here do."""

import sys
import unittest


def run(module, verbosity):
    """Whether something failed."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[module])
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=verbosity).run(suite)
    # A part of a test counts as the test.
    failed = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
    passed = result.testsRun - len([name for name in failed if not name.startswith(("setUp", "tearDown"))])
    if not result.testsRun:
        failed.add("no test ran")
    word = "FAILED" if failed else "ok"
    skipped = len(result.skipped)
    print(f"test result: {word}. {passed - skipped} passed; {len(failed)} failed; {skipped} ignored")
    return bool(failed)
