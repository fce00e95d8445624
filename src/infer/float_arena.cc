#include "infer/float_arena.h"

#include <sys/mman.h>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "kernels/tile.h"

namespace sluice::infer {

Result<FloatArena> FloatArena::Make(uint64_t num_floats, const std::string& what, MemoryBudget* budget) {
  FloatArena arena;
  if (num_floats == 0) return arena;
  SLUICE_ASSIGN(const uint64_t size_bytes, CheckedMultiply(num_floats, sizeof(float), what));
  SLUICE_ASSIGN(arena.lease_, budget->Lease(size_bytes, what));
  void* memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Fail(ErrorCode::kBudget, fmt::format("the system has no {} for {}", FormatMemory(size_bytes), what));
  }
  madvise(memory, size_bytes, MADV_HUGEPAGE);
  arena.memory_ = static_cast<float*>(memory);
  arena.num_floats_ = num_floats;
  return arena;
}

FloatArena& FloatArena::operator=(FloatArena&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(num_floats_, other.num_floats_);
  std::swap(taken_, other.taken_);
  lease_ = std::move(other.lease_);
  return *this;
}

FloatArena::~FloatArena() {
  if (memory_ != nullptr) munmap(memory_, num_floats_ * sizeof(float));
}

uint64_t FloatArena::RoundedFloats(uint64_t count) { return RoundUp(count, kernels::kTileAlignment / sizeof(float)); }

float* FloatArena::Take(uint64_t count) {
  SLUICE_CHECK(taken_ + RoundedFloats(count) <= num_floats_);
  float* place = memory_ + taken_;
  taken_ += RoundedFloats(count);
  return place;
}

}  // namespace sluice::infer
