#include "arithmetic/kept_magnitudes.h"

namespace sluice::arithmetic {

using graph::kBlockElements;

static_assert(FoldNumbers<float>::kCount == kBlockElements);

namespace {
constexpr uint64_t kMostOfFew = kBlockElements / 2;
}

KeptMagnitudes::KeptMagnitudes(uint64_t num_elements, std::shared_ptr<FoldMemory> memory)
    : num_elements_(num_elements), memory_(std::move(memory)) {
  if (num_elements <= kMostOfFew) {
    few_.resize(num_elements);
  } else {
    blocks_.resize((num_elements + kBlockElements - 1) / kBlockElements);
  }
}

uint64_t KeptMagnitudes::StateBytes(uint64_t num_elements) {
  if (num_elements <= kMostOfFew) return num_elements * sizeof(float) + 64;
  return (num_elements + kBlockElements - 1) / kBlockElements * (FoldMemory::kPartBytes + sizeof(FoldNumbers<float>)) +
         1024;
}

float* KeptMagnitudes::From(uint64_t element) {
  if (blocks_.empty()) return few_.data() + element;
  FoldNumbers<float>& block = blocks_[element / kBlockElements];
  if (!block) block = FoldNumbers<float>(memory_.get());
  return block.data() + element % kBlockElements;
}

}  // namespace sluice::arithmetic
