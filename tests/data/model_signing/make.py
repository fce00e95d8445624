"""Makes what is in this folder: a small model, keys, and signatures of it by PyPI's model-signing 1.1.1 (with pyopenssl, which it needs and does not ask
for). The keys are for tests alone. Needs the openssl program:

    python -m venv v && v/bin/pip install model-signing==1.1.1 pyopenssl && v/bin/python make.py
"""

import pathlib
import subprocess

import model_signing

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "model"
FILES = {
    "config.json": b'{"model_type": "llama"}\n',
    "sub/weights.data": b"eight by\0\1\2\3",
    "sub.txt": b"before sub as text, behind it by parts\n",
    "caf\u00e9.md": "caf\u00e9\n".encode(),
    "empty": b"",
    ".github/ignored.yml": b"ignored: true\n",
}
CURVES = {"p256": "prime256v1", "p384": "secp384r1", "p521": "secp521r1"}


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def sign(name, key, **hashing):
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=HERE / f"{key}.key.pem")
    if hashing:
        made = model_signing.hashing.Config()
        config.set_hashing_config(made.use_shard_serialization(**hashing) if "shard_size" in hashing else made.use_file_serialization(**hashing))
    config.sign(MODEL, HERE / f"{name}.sig")


def certificate():
    """A signature with a certificate of its own."""
    pem = HERE / "certificate.pem"
    openssl("req", "-x509", "-new", "-key", HERE / "p256.key.pem", "-subj", "/CN=test", "-days", 3650, "-out", pem, "-addext", "keyUsage=digitalSignature",
            "-addext", "extendedKeyUsage=codeSigning")
    model_signing.signing.Config().use_certificate_signer(
        private_key=HERE / "p256.key.pem", signing_certificate=pem, certificate_chain=[pem]).sign(MODEL, HERE / "certificate.sig")


for name, data in FILES.items():
    (MODEL / name).parent.mkdir(parents=True, exist_ok=True)
    (MODEL / name).write_bytes(data)
for name, curve in CURVES.items():
    openssl("ecparam", "-name", curve, "-genkey", "-out", HERE / f"{name}.key.pem")
    openssl("ec", "-in", HERE / f"{name}.key.pem", "-pubout", "-out", HERE / f"{name}.pub.pem")
    sign(name, name)
openssl("pkcs8", "-topk8", "-in", HERE / "p256.key.pem", "-passout", "pass:secret", "-out", HERE / "encrypted.key.pem")
openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", HERE / "k256.key.pem")
openssl("genpkey", "-algorithm", "ed25519", "-out", HERE / "ed25519.key.pem")
sign("shards", "p256", shard_size=7)
sign("blake2", "p256", hashing_algorithm="blake2")
sign("blake3", "p256", hashing_algorithm="blake3")
certificate()
