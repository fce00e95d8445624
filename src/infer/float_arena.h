// FloatArena: working memory of the forward pass: one piece, leased from the budget, in huge pages where the system
// gives them, dealt out once.
#pragma once

#include <cstdint>
#include <string>

#include "base/memory_budget.h"
#include "base/result.h"

namespace sluice::infer {

class FloatArena {
 public:
  FloatArena() = default;
  // All zero. kBudget, naming `what`.
  static Result<FloatArena> Make(uint64_t num_floats, const std::string& what, MemoryBudget* budget);
  FloatArena(FloatArena&& other) noexcept { *this = std::move(other); }
  FloatArena& operator=(FloatArena&& other) noexcept;
  ~FloatArena();

  // The next `count` floats, aligned to 64 bytes. CHECKs that they are there: sum RoundedFloats beforehand.
  float* Take(uint64_t count);
  static uint64_t RoundedFloats(uint64_t count);
  // Deals everything out anew, to another who works in turn with the last.
  void Rewind() { taken_ = 0; }
  float* data() const { return memory_; }

 private:
  float* memory_ = nullptr;
  uint64_t num_floats_ = 0, taken_ = 0;
  MemoryLease lease_;
};

}  // namespace sluice::infer
