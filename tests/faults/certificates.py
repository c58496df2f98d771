"""Certificates of an authority of one's own, as a laboratory has them."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """One that signs certificates; `file` holds its own."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    file: Path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def authority(directory: Path, name: str) -> Authority:
    """A new one, whose certificate is in the directory."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(_named(name), _named(name), key, key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    file = directory / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate, file)


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    by: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    *extensions: x509.ExtensionType,
    days: int = 1,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=3)).not_valid_after(now + datetime.timedelta(days=days))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(by, hashes.SHA256())


def certificate_of_server(directory: Path, by: Authority, address: str = "127.0.0.1", days: int = 1) -> tuple[str, str]:
    """Files with a certificate for an address and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = _signed(_named("store"), by.certificate.subject, by.key, key.public_key(), names, days=days)
    files = directory / f"{address}-{days}.pem", directory / f"{address}-{days}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(files[0]), str(files[1])
