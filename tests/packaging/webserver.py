# SPDX-License-Identifier: Apache-2.0
"""webserver.py FOLDER CERTIFICATE KEY: serves the folder at https://127.0.0.1 until it is killed; prints a line when it is ready."""

import functools
import http.server
import ssl
import sys

if __name__ == "__main__":
    folder, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()
