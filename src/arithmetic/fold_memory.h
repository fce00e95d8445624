// FoldMemory: memory that folds take in parts of 256 KiB and that the next folds use again. A fresh page costs a fault,
// a clearing and in the end an unmapping, more than a fold takes to count what goes into it, and tensors are many.
//
// Holds no more parts at any time than were taken at once: what folds have announced (graph::Fact::StateBytes) covers
// it. Parts that nobody has are given back to the system with the last owner. Thread-safe.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

namespace sluice::arithmetic {

class FoldMemory : public std::enable_shared_from_this<FoldMemory> {
 public:
  static constexpr uint64_t kPartBytes = uint64_t{1} << 18;

  // The one of all facts that live now. A fact keeps it, so that parts last from one fold to the next.
  static std::shared_ptr<FoldMemory> Shared();

  struct Return {
    std::shared_ptr<FoldMemory> to;
    void operator()(std::byte* part) const { to->Put(part); }
  };
  using Part = std::unique_ptr<std::byte, Return>;

  ~FoldMemory();
  // Whatever stands in it.
  Part Take();
  // Gives back what nobody has.
  void Trim();

 private:
  void Put(std::byte* part);

  std::mutex mutex_;
  size_t num_parts_ = 0;
  std::vector<std::byte*> free_;
};

// kPartBytes of numbers in such a part.
template <class T>
class FoldNumbers {
 public:
  static constexpr uint64_t kCount = FoldMemory::kPartBytes / sizeof(T);
  FoldNumbers() = default;
  explicit FoldNumbers(FoldMemory* memory) : part_(memory->Take()), numbers_(new(part_.get()) T[kCount]) {}
  explicit operator bool() const { return part_ != nullptr; }
  T* data() const { return numbers_; }
  T& operator[](uint64_t i) const { return numbers_[i]; }
  void Clear() { std::memset(numbers_, 0, FoldMemory::kPartBytes); }

 private:
  FoldMemory::Part part_;
  T* numbers_ = nullptr;
};

}  // namespace sluice::arithmetic
