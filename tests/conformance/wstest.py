"""wstest as it is, under Python 2.7, but for two things.

Its server would listen at a fixed port of every address of the machine. Here that is a free one of
127.0.0.1, which the server prints. And cases that do not exist are an error: wstest would wait.
"""

import json
import sys

from autobahntestsuite import choosereactor, fuzzing, wstest  # noqa: F401
from twisted.internet import reactor


def listen(factory, tls=None):
    """Stand in for autobahn.twisted.websocket.listenWS."""
    if tls is None:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
    factory.externalPort = port.getHost().port
    sys.stdout.write("PORT {}\n".format(factory.externalPort))
    sys.stdout.flush()
    return port


def check(patterns):
    """Exit if one of them stands for no case."""
    known = fuzzing.CaseSet(
        fuzzing.CaseSetname,
        fuzzing.CaseBasename,
        fuzzing.Cases,
        fuzzing.CaseCategories,
        fuzzing.CaseSubCategories,
    )
    for pattern in patterns:
        if not set(known.resolveCasePatternList([pattern])) & set(known.CasesById):
            sys.exit("uvws: wstest has no case {}".format(pattern))


options = wstest.WsTestOptions()
options.parseOptions()
with open(options["spec"]) as spec:  # noqa: PTH123
    check(json.load(spec)["cases"])
fuzzing.listenWS = listen
wstest.run()
