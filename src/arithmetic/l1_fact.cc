#include "arithmetic/l1_fact.h"

#include <bit>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

// Of what a mask keeps: one that the elements' indices say, or the bits of a third input.
class L1Fold final : public graph::Fold {
 public:
  L1Fold(const kernels::DeltaMask& mask, uint64_t num_elements, int num_workers)
      : mask_(mask),
        num_elements_(num_elements),
        sums_((num_elements + graph::kBlockElements - 1) / graph::kBlockElements, num_workers) {}

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    if (in.size() == 2) return sums_.Add(worker, piece, in, mask_, num_elements_);
    const kernels::DeltaMask mask = {.kind = kernels::DeltaMask::Kind::kGiven, .bits = MaskBitsOf(in[2])};
    sums_.Add(worker, piece, in.first(2), mask, num_elements_);
  }
  bool Finish(graph::FactValue* value) override {
    value->resize(2);
    sums_.Finish(&(*value)[0], &(*value)[1]);
    return true;
  }

 private:
  const kernels::DeltaMask mask_;
  const uint64_t num_elements_;
  L1Sums sums_;
};

}  // namespace

L1Sums::L1Sums(uint64_t num_blocks, int num_workers) : slots_(num_blocks), workers_(num_workers) {}

void L1Sums::Add(int worker, graph::Range piece, std::span<const graph::View> in, const kernels::DeltaMask& mask,
                 uint64_t num_elements) {
  float x_copy[kCopyElements], base_copy[kCopyElements];
  AddBy(worker, piece, num_elements, [&](kernels::L1Lanes* lanes) {
    ForAlignedParts(piece.size(), AreFloatAligned(in), [&](uint64_t first, uint64_t count) {
      kernels::DeltaMask of_part = mask;
      if (mask.bits != nullptr) of_part.bits += first / kMaskWordBits;
      kernels::AccumulateL1(FloatsAt(in[0], first, count, x_copy), FloatsAt(in[1], first, count, base_copy), of_part,
                            piece.begin + first, count, lanes);
    });
  });
}

void L1Sums::Finish(double* all, double* kept) const {
  *all = *kept = 0;
  for (const Slot& slot : slots_) {
    *all += slot.all;
    *kept += slot.kept;
  }
}

uint64_t L1Sums::StateBytes(uint64_t num_blocks, int num_workers) {
  return num_blocks * sizeof(Slot) + static_cast<uint64_t>(num_workers) * sizeof(Worker) + 256;
}

std::string MaskDescription(const kernels::DeltaMask& mask) {
  switch (mask.kind) {
    case kernels::DeltaMask::Kind::kAll:
      return "all";
    case kernels::DeltaMask::Kind::kRandom:
      return fmt::format("random {} {} {}", mask.key.k0, mask.key.k1, mask.keep_below);
    case kernels::DeltaMask::Kind::kMagnitude:
      return fmt::format("magnitude {} {}", std::bit_cast<uint32_t>(mask.threshold), mask.last_tie);
    case kernels::DeltaMask::Kind::kGiven:
      break;  // described by what gives the bits
  }
  SLUICE_CHECK(false);
}

L1Fact::L1Fact(const graph::Node* x, const graph::Node* base, const kernels::DeltaMask& mask)
    : Fact("l1 " + MaskDescription(mask), {x, base}), mask_(mask) {}

L1Fact::L1Fact(const graph::Node* x, const graph::Node* base, const graph::Node* mask)
    : Fact("l1 given", {x, base, mask}) {}

uint64_t L1Fact::StateBytes(int num_workers) const {
  return sizeof(L1Fold) +
         L1Sums::StateBytes((num_elements() + graph::kBlockElements - 1) / graph::kBlockElements, num_workers);
}

std::unique_ptr<graph::Fold> L1Fact::Begin(int num_workers) const {
  return std::make_unique<L1Fold>(mask_, num_elements(), num_workers);
}

float L1Scale(double all, double kept) {
  if (all < 1e-7 || kept < 1e-7) return 1;
  return static_cast<float>(all / kept);
}

}  // namespace sluice::arithmetic
