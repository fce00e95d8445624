// a b + c for the references: rounded once or, as instruction sets without FMA do it, twice.
#pragma once

#include <cmath>

namespace sluice::kernels::reference {

inline float MultiplyAdd(float a, float b, float c, bool fused) { return fused ? std::fma(a, b, c) : a * b + c; }

}  // namespace sluice::kernels::reference
