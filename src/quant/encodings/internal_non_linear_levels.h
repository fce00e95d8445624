// The 16 levels of IQ4_NL and IQ4_XS. Source: ggml-common.h, kvalues_iq4nl.
#pragma once

#include <cstdint>

namespace sluice::quant::encodings {

inline constexpr int8_t kNonLinearLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace sluice::quant::encodings
