"""PyTorch files written byte by byte, for the command line's tests and the fuzz targets' seeds. Standard library only.

Opcodes of a pickle are functions here that give the bytes that leave one value on the stack.
"""

import io
import pathlib
import pickle
import struct
import zipfile
import zlib

STORAGES = {"F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
            "I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage", "U8": "ByteStorage",
            "BOOL": "BoolStorage"}
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def whole(body, protocol=2):
    return pickle.PROTO + bytes([protocol]) + body + pickle.STOP


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    if 0 <= value < 256:
        return pickle.BININT1 + bytes([value])
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    raw = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(raw)]) + raw


def symbol(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def items(*values):
    return pickle.MARK + b"".join(values) + pickle.TUPLE


def numbers(values):
    return items(*map(number, values))


def call(function, *arguments):
    return function + items(*arguments) + pickle.REDUCE


def ordered_dict():
    return symbol("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def dictionary(pairs, start=pickle.EMPTY_DICT):
    return start + pickle.MARK + b"".join(key + value for key, value in pairs) + pickle.SETITEMS


def storage(kind, key, count):
    module = "torch.storage" if kind == "UntypedStorage" else "torch"
    return items(text("storage"), symbol(module, kind), text(key), text("cpu"), number(count)) + pickle.BINPERSID


def tensor(storage_ops, offset, shape, stride=None):
    if stride is None:
        stride = [1] * len(shape)
        for i in reversed(range(len(shape) - 1)):
            stride[i] = stride[i + 1] * shape[i + 1]
    return call(symbol("torch._utils", "_rebuild_tensor_v2"), storage_ops, number(offset), numbers(shape), numbers(stride),
                pickle.NEWFALSE, ordered_dict())


def archive(members, folder="archive", method=zipfile.ZIP_STORED):
    """A plain ZIP of name -> bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data, compress_type=method)
    return out.getvalue()


def torch_archive(members, folder="archive", checksums=True):
    """A ZIP as PyTorch's writer lays it out: sizes behind the data, data at multiples of 64, zip64 ends."""
    out, directory = b"", b""
    for name, data in members.items():
        name = f"{folder}/{name}".encode()
        crc = zlib.crc32(data) if checksums else 0
        padding = -(len(out) + 30 + len(name) + 4) % 64
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 0, 0, 0x808, 0, 0, 0, crc, len(data), len(data),
                                 len(name), 0, 0, 0, 0, 0, len(out)) + name
        out += struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 0, 0x808, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra
        out += data + struct.pack("<4sIII", b"PK\x07\x08", crc, len(data), len(data))
    begin, end, count = len(out), len(out) + len(directory), len(members)
    out += directory + struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 0x31E, 45, 0, 0, count, count, len(directory), begin)
    return out + struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1) + struct.pack(
        "<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(directory), begin, 0)


def write_torch(path, tensors, shared=None, wrap=None, plain=False, **how):
    """tensors: name -> (dtype, shape, bytes), a storage each; shared: name -> name of the one whose storage it has; wrap:
    the key of a larger dict under which the state dict stands; plain: as an ordinary ZIP, data at any byte."""
    pairs, data, calls = [], {}, {}
    for name, (dtype, shape, payload) in tensors.items():
        key = str(len(data))
        calls[name] = tensor(storage(STORAGES[dtype], key, len(payload) // BYTES[dtype]), 0, list(shape))
        data[f"data/{key}"] = payload
        pairs.append((text(name), calls[name]))
    pairs += [(text(name), calls[other]) for name, other in (shared or {}).items()]
    state = dictionary(pairs, ordered_dict())
    if wrap:
        state = dictionary([(text("epoch"), number(3)), (text(wrap), state)])
    members = {"data.pkl": whole(state), "byteorder": b"little", **data, "version": b"3\n"}
    pathlib.Path(path).write_bytes(archive(members, **how) if plain else torch_archive(members, **how))
    return path
