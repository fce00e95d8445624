#include "arithmetic/fold_memory.h"

namespace sluice::arithmetic {
namespace {

constexpr std::align_val_t kPartAlignment{64};

void Free(std::vector<std::byte*>* parts) {
  for (std::byte* part : *parts) ::operator delete(part, kPartAlignment);
  parts->clear();
}

}  // namespace

std::shared_ptr<FoldMemory> FoldMemory::Shared() {
  static std::mutex mutex;
  static std::weak_ptr<FoldMemory> shared;
  std::lock_guard lock(mutex);
  std::shared_ptr<FoldMemory> memory = shared.lock();
  if (memory == nullptr) shared = memory = std::make_shared<FoldMemory>();
  return memory;
}

FoldMemory::~FoldMemory() { Free(&free_); }

FoldMemory::Part FoldMemory::Take() {
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      std::byte* part = free_.back();
      free_.pop_back();
      return {part, {shared_from_this()}};
    }
    free_.reserve(++num_parts_);  // so that Put needs no memory
  }
  return {static_cast<std::byte*>(::operator new(kPartBytes, kPartAlignment)), {shared_from_this()}};
}

void FoldMemory::Trim() {
  std::lock_guard lock(mutex_);
  num_parts_ -= free_.size();
  Free(&free_);
}

void FoldMemory::Put(std::byte* part) {
  std::lock_guard lock(mutex_);
  free_.push_back(part);
}

}  // namespace sluice::arithmetic
