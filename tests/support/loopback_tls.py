"""A certificate for 127.0.0.1 with its key, made anew for each run and trusted by these tests only."""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def loopback_pem() -> Path:
    """Give a file that holds key and certificate; it signs itself, so that it is its own authority."""
    certificate, key = own_authority("gearshift tests")
    path = Path(tempfile.mkdtemp(prefix="gearshift-tests-")) / "loopback.pem"
    path.write_bytes(key + certificate)
    return path


def own_authority(name: str, *, dns: str = "") -> tuple[bytes, bytes]:
    """Make a certificate for 127.0.0.1, and a name if one is given, that is its own authority; gives it and its key, PEM."""
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    if dns:
        names.append(x509.DNSName(dns))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
