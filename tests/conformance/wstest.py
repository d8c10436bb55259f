"""wstest as it is, under Python 2.7, but for where its server listens.

That would be a fixed port of every address of the machine. Here it is a free one of 127.0.0.1,
which the server prints.
"""

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


fuzzing.listenWS = listen
wstest.run()
