// RecordingSource: a ByteSource that remembers which bytes were asked of it, for tests and for evidence.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "io/byte_source.h"

namespace sluice::io {

struct RecordedRead {
  uint64_t offset, size_bytes;
};

class RecordingSource final : public ByteSource {
 public:
  explicit RecordingSource(std::shared_ptr<const ByteSource> inner) : inner_(std::move(inner)) {}
  const std::string& name() const override { return inner_->name(); }
  uint64_t size_bytes() const override { return inner_->size_bytes(); }
  SourceId id() const override { return inner_->id(); }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override;

  std::vector<RecordedRead> reads() const;
  void Clear();
  // For each byte of [begin, end): how often it was read, as (times, number of bytes) pairs in order of times.
  std::vector<std::pair<int, uint64_t>> TimesRead(uint64_t begin, uint64_t end) const;

 private:
  std::shared_ptr<const ByteSource> inner_;
  mutable std::mutex mutex_;
  mutable std::vector<RecordedRead> reads_;
};

}  // namespace sluice::io
