# SPDX-License-Identifier: Apache-2.0
"""A certificate authority and server certificates, made with the openssl command."""

from pathlib import Path

from .proc import run


class Authority:
    """A CA in a folder. `ca` is the file to trust; `issue()` returns (certificate file, key file)."""

    def __init__(self, folder, name="kbgp test CA"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ca = self.folder / "ca.pem"
        self._key = self.folder / "ca.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-keyout", self._key, "-out", self.ca, "-subj", f"/CN={name}",
             "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"], check=True)

    def issue(self, name, san="DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1", expired=False):
        """A server certificate for the names in `san`; `expired`: it was valid in January 2020."""
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        cert, ext = self.folder / f"{name}.pem", self.folder / f"{name}.ext"
        ext.write_text(f"subjectAltName={san}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
        run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", request, "-subj", f"/CN={name}"], check=True)
        if expired:
            self._sign_expired(request, cert, ext)
        else:
            run(["openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
                 "-days", "20", "-out", cert, "-extfile", ext], check=True)
        return cert, key

    def _sign_expired(self, request, cert, ext):
        """`openssl x509` of OpenSSL 3.0 knows no dates in the past, `openssl ca` does."""
        folder = self.folder / f"{cert.stem}-ca"
        folder.mkdir()
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("1000\n")
        config = folder / "ca.cnf"
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\nserial={folder}/serial\n"
                          f"new_certs_dir={folder}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
        run(["openssl", "ca", "-batch", "-config", config, "-in", request, "-cert", self.ca, "-keyfile", self._key,
             "-startdate", "20200101000000Z", "-enddate", "20200131000000Z", "-notext", "-out", cert,
             "-extfile", ext], check=True)
