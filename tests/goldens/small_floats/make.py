#!/usr/bin/env python3
"""Makes the files beside it, with PyPI's ml_dtypes 0.5.1 and numpy 1.26.4 (Python 3.11): `python make.py`, deterministic.

    f8_e4m3.f32, ...         what each of the 256 codes of a dtype is in f32
    f4.f32                   what each byte of two numbers is, the low nibble first (torch's float4_e2m1fn_x2): 512 f32
    encode.f32               numbers around every border of rounding of E4M3 and of E5M2, and some others
    f8_e4m3.codes, f8_e5m2.codes   what ml_dtypes rounds those to
"""

import pathlib

import ml_dtypes
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
    "f8_e8m0": ml_dtypes.float8_e8m0fnu,
    "f8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "f8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}
CODES = np.arange(256, dtype=np.uint8)


def numbers_to_encode():
    parts = [np.float32([0.0, 1e-45, 1e-38, 3.4e38, 464.0, 480.0, 57344.0, 61440.0, 65536.0])]
    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        values = CODES[:128].view(dtype).astype(np.float32)
        values = values[np.isfinite(values)]
        middles = (values[1:] + values[:-1]) / 2
        for centre in (values, middles):
            bits = centre.view(np.uint32)
            parts += [(np.maximum(bits, 1) + step).astype(np.uint32).view(np.float32) for step in (-1, 0, 1)]
    bits = np.random.default_rng(1).integers(0, 0x7F800000, 1000, dtype=np.uint32)
    parts.append(bits.view(np.float32))
    parts.append(np.uint32([0x7F800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF]).view(np.float32))
    positive = np.concatenate(parts).astype("<f4")
    return np.concatenate([positive, (positive.view(np.uint32) | np.uint32(0x80000000)).view("<f4")])


if __name__ == "__main__":
    for name, dtype in DTYPES.items():
        (HERE / f"{name}.f32").write_bytes(CODES.view(dtype).astype("<f4").tobytes())
    pairs = np.stack([CODES & 15, CODES >> 4], axis=1).view(ml_dtypes.float4_e2m1fn)
    (HERE / "f4.f32").write_bytes(pairs.astype("<f4").tobytes())
    numbers = numbers_to_encode()
    (HERE / "encode.f32").write_bytes(numbers.tobytes())
    with np.errstate(invalid="ignore"):
        for name in ("f8_e4m3", "f8_e5m2"):
            (HERE / f"{name}.codes").write_bytes(numbers.astype(DTYPES[name]).view(np.uint8).tobytes())
