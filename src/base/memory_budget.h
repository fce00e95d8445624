// MemoryBudget: one number for everything that the process may hold resident, and leases out of it.
//
// The budget covers the whole process, program and headers included: whoever sizes working memory first calls
// ChargeResident(), which books what is resident now and not leased (code, catalogues, heap). Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "base/result.h"

namespace sluice {

class MemoryBudget;

// Move-only: gives its bytes back when it goes.
class MemoryLease {
 public:
  MemoryLease() = default;
  MemoryLease(MemoryLease&& other) noexcept { *this = std::move(other); }
  MemoryLease& operator=(MemoryLease&& other) noexcept;
  ~MemoryLease();
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  friend class MemoryBudget;
  MemoryLease(MemoryBudget* budget, uint64_t size_bytes) : budget_(budget), size_bytes_(size_bytes) {}
  MemoryBudget* budget_ = nullptr;
  uint64_t size_bytes_ = 0;
};

class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  MemoryBudget(const MemoryBudget&) = delete;

  // Error kBudget, naming `what`, what is free, and the smallest limit that would do.
  Result<MemoryLease> Lease(uint64_t size_bytes, const std::string& what);

  // Gives free heap back, then books resident memory that nobody leased, plus kMarginBytes for what the allocator and
  // the stacks will add. `touched_lease_bytes`: of the memory leased now, how much is resident already.
  void ChargeResident(uint64_t touched_lease_bytes = 0);

  uint64_t limit_bytes() const { return limit_bytes_; }
  uint64_t used_bytes() const;  // leases and charge; may exceed the limit, since the charge is what it is
  uint64_t free_bytes() const;
  uint64_t peak_bytes() const;  // of leases and charge together

  static constexpr uint64_t kMarginBytes = 6u << 20;

 private:
  friend class MemoryLease;
  void Return(uint64_t size_bytes);

  const uint64_t limit_bytes_;
  mutable std::mutex mutex_;
  uint64_t leased_bytes_ = 0;
  uint64_t charged_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
};

// The --max-memory to advise where so much is needed, in whole MiB: a limit that a message gives must be enough when it
// is given back, and what the program itself takes differs by some hundred KiB from run to run.
uint64_t AdvisedMib(uint64_t needed_bytes);

// The kernel's VmRSS and VmHWM of this process, in bytes.
uint64_t ResidentBytes();
uint64_t PeakResidentBytes();

// What the cgroup (v2 or v1) or the machine has free for this process, in bytes: the basis of --max-memory's default.
uint64_t AvailableMemoryBytes();

// Keeps glibc's allocator from growing arenas per thread, lets it keep a few MiB of what was freed (what each tensor's
// facts take anew would be zeroed by the kernel again), and returns the rest early. Call once, in main.
void TameAllocator();
// Gives free heap back to the system (after large catalogues were parsed).
void TrimHeap();

}  // namespace sluice
