// What a pickle of PyTorch may name, and what its types of numbers are here.
#pragma once

#include <array>
#include <string_view>

#include "formats/pickle.h"

namespace sluice::formats {

inline constexpr std::string_view kTorchUtils = "torch._utils";

// The closed list. A list of what is forbidden instead was bypassed wherever somebody kept one.
inline constexpr std::array<PickleGlobal, 42> kTorchGlobals = {{
    {kTorchUtils, "_rebuild_tensor", PickleGlobal::Role::kFunction},
    {kTorchUtils, "_rebuild_tensor_v2", PickleGlobal::Role::kFunction},
    {kTorchUtils, "_rebuild_tensor_v3", PickleGlobal::Role::kFunction},
    {kTorchUtils, "_rebuild_parameter", PickleGlobal::Role::kFunction},
    {"_codecs", "encode", PickleGlobal::Role::kFunction},  // how protocol 2 writes bytes
    {"collections", "OrderedDict", PickleGlobal::Role::kDict},
    {"torch", "Size", PickleGlobal::Role::kClass},
    {"torch", "device", PickleGlobal::Role::kClass},
    {"torch.storage", "UntypedStorage"},
    {"torch", "DoubleStorage"},
    {"torch", "FloatStorage"},
    {"torch", "HalfStorage"},
    {"torch", "BFloat16Storage"},
    {"torch", "LongStorage"},
    {"torch", "IntStorage"},
    {"torch", "ShortStorage"},
    {"torch", "CharStorage"},
    {"torch", "ByteStorage"},
    {"torch", "BoolStorage"},
    {"torch", "ComplexFloatStorage"},
    {"torch", "ComplexDoubleStorage"},
    {"torch", "float64"},
    {"torch", "float32"},
    {"torch", "float16"},
    {"torch", "bfloat16"},
    {"torch", "int64"},
    {"torch", "int32"},
    {"torch", "int16"},
    {"torch", "int8"},
    {"torch", "uint8"},
    {"torch", "bool"},
    {"torch", "complex64"},
    {"torch", "complex128"},
    {"torch", "uint16"},
    {"torch", "uint32"},
    {"torch", "uint64"},
    {"torch", "float8_e4m3fn"},
    {"torch", "float8_e5m2"},
    {"torch", "float8_e4m3fnuz"},
    {"torch", "float8_e5m2fnuz"},
    {"torch", "float8_e8m0fnu"},
    {"torch", "float4_e2m1fn_x2"},
}};

struct TorchNumberType {
  std::string_view storage, dtype, encoding;
};
// complex128 and pairs of 4-bit floats have no encoding here.
inline constexpr std::array<TorchNumberType, 19> kTorchNumberTypes = {{
    {"DoubleStorage", "float64", "F64"},
    {"FloatStorage", "float32", "F32"},
    {"HalfStorage", "float16", "F16"},
    {"BFloat16Storage", "bfloat16", "BF16"},
    {"LongStorage", "int64", "I64"},
    {"IntStorage", "int32", "I32"},
    {"ShortStorage", "int16", "I16"},
    {"CharStorage", "int8", "I8"},
    {"ByteStorage", "uint8", "U8"},
    {"BoolStorage", "bool", "BOOL"},
    {"ComplexFloatStorage", "complex64", "C64"},
    {"", "uint16", "U16"},
    {"", "uint32", "U32"},
    {"", "uint64", "U64"},
    {"", "float8_e4m3fn", "F8_E4M3"},
    {"", "float8_e5m2", "F8_E5M2"},
    {"", "float8_e4m3fnuz", "F8_E4M3FNUZ"},
    {"", "float8_e5m2fnuz", "F8_E5M2FNUZ"},
    {"", "float8_e8m0fnu", "F8_E8M0"},
}};

}  // namespace sluice::formats
