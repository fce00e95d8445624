// StoredTensor: a tensor whose bytes lie in a file as they are, whatever the container.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "quant/encoding.h"

namespace sluice::formats {

struct StoredTensor {
  std::string_view name;  // lives as long as the header that it is from
  quant::Encoding encoding;
  std::span<const uint64_t> shape;
  uint64_t num_elements = 0;
  uint64_t begin = 0, end = 0;  // bytes of the file
};

}  // namespace sluice::formats
