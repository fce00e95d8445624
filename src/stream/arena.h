// Arena: one huge-page region cut into slots of one size, so that it cannot fragment. The slot freed last is used
// first: few pages are ever touched, and those stay in the caches. Not thread-safe: the engine's mutex guards it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"

namespace sluice::stream {

class Arena {
 public:
  // slot_bytes: a multiple of 4 KiB. Pages become resident when they are first written. kBudget where the address space
  // fails.
  static Result<std::unique_ptr<Arena>> Make(uint64_t num_slots, uint64_t slot_bytes);
  ~Arena();
  Arena(const Arena&) = delete;

  uint64_t slot_bytes() const { return slot_bytes_; }
  uint64_t num_slots() const { return num_slots_; }
  uint64_t num_free() const { return free_.size(); }

  uint8_t* Take();  // num_free() must not be 0
  void Return(uint8_t* slot);

 private:
  Arena(uint8_t* base, uint64_t mapped_bytes, uint64_t num_slots, uint64_t slot_bytes);

  uint8_t* base_;
  uint64_t mapped_bytes_, num_slots_, slot_bytes_;
  std::vector<uint32_t> free_;  // a stack
};

}  // namespace sluice::stream
