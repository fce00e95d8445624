#include "base/memory_budget.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/cgroup.h"
#include "base/check.h"
#include "base/units.h"

namespace sluice {

MemoryLease& MemoryLease::operator=(MemoryLease&& other) noexcept {
  if (this != &other) {
    if (budget_ != nullptr) budget_->Return(size_bytes_);
    budget_ = std::exchange(other.budget_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

MemoryLease::~MemoryLease() {
  if (budget_ != nullptr) budget_->Return(size_bytes_);
}

Result<MemoryLease> MemoryBudget::Lease(uint64_t size_bytes, const std::string& what) {
  const std::lock_guard lock(mutex_);
  const uint64_t taken = leased_bytes_ + charged_bytes_;
  const uint64_t free = limit_bytes_ - std::min(limit_bytes_, taken);
  if (size_bytes > free) {
    uint64_t needed = 0;
    if (__builtin_add_overflow(taken, size_bytes, &needed)) needed = UINT64_MAX;
    return Fail(ErrorCode::kBudget,
                fmt::format("{} needs {} of memory, but {} of the {} of --max-memory are free; the smallest "
                            "--max-memory that would do is {}MiB",
                            what, FormatMemory(size_bytes), FormatMemory(free), FormatMemory(limit_bytes_),
                            AdvisedMib(needed)));
  }
  leased_bytes_ += size_bytes;
  peak_bytes_ = std::max(peak_bytes_, leased_bytes_ + charged_bytes_);
  return MemoryLease(this, size_bytes);
}

void MemoryBudget::Return(uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  SLUICE_CHECK(size_bytes <= leased_bytes_);
  leased_bytes_ -= size_bytes;
}

void MemoryBudget::ChargeResident(uint64_t touched_lease_bytes) {
  TrimHeap();  // what was freed and not given back is room, not a need
  const uint64_t resident = ResidentBytes();
  const std::lock_guard lock(mutex_);
  charged_bytes_ = resident - std::min(resident, touched_lease_bytes) + kMarginBytes;
  peak_bytes_ = std::max(peak_bytes_, leased_bytes_ + charged_bytes_);
}

uint64_t MemoryBudget::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return leased_bytes_ + charged_bytes_;
}

uint64_t MemoryBudget::free_bytes() const {
  const std::lock_guard lock(mutex_);
  return limit_bytes_ - std::min(limit_bytes_, leased_bytes_ + charged_bytes_);
}

uint64_t MemoryBudget::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

namespace {

// A line "key:   1234 kB" of /proc/self/status, in bytes. No heap: it is asked while a budget is being counted.
uint64_t StatusBytes(const char* key) {
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (file == nullptr) return 0;
  char line[256];
  unsigned long long kib = 0;
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::strncmp(line, key, std::strlen(key)) == 0) {
      std::sscanf(line + std::strlen(key), " %llu", &kib);
      break;
    }
  }
  std::fclose(file);
  return kib * kKiB;
}

}  // namespace

uint64_t AdvisedMib(uint64_t needed_bytes) {
  // Pages of the program that are resident vary between runs with what the page cache has of it: by up to 0.6 MiB seen.
  constexpr uint64_t kVariation = kMiB;
  return CeilDiv(std::min(needed_bytes, UINT64_MAX - 2 * kMiB) + kVariation, kMiB);
}

uint64_t ResidentBytes() { return StatusBytes("VmRSS:"); }
uint64_t PeakResidentBytes() { return StatusBytes("VmHWM:"); }

uint64_t AvailableMemoryBytes() {
  const uint64_t machine = MachineFreeMemoryBytes();
  return std::min(machine, CgroupFreeMemoryBytes().value_or(machine));
}

void TameAllocator() {
  mallopt(M_ARENA_MAX, 1);                 // else each thread may keep up to 64 MiB of its own
  mallopt(M_MMAP_THRESHOLD, 1024 * 1024);  // setting it also stops glibc from raising it after the first large free
  mallopt(M_TRIM_THRESHOLD, 4096 * 1024);
  mallopt(M_TOP_PAD, 64 * 1024);
}

void TrimHeap() { malloc_trim(0); }

}  // namespace sluice
