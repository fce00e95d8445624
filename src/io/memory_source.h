// A ByteSource over bytes in memory: what is not yet, or never was, a file.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/byte_source.h"

namespace sluice::io {

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, std::string bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {
    static std::atomic<uint64_t> next = 0;
    id_ = {~uint64_t{0}, next++};  // no device of a real file
  }
  MemorySource(std::string name, const std::vector<uint8_t>& bytes)
      : MemorySource(std::move(name), std::string(bytes.begin(), bytes.end())) {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return bytes_.size(); }
  SourceId id() const override { return id_; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return Fail(ErrorCode::kCorrupt, name_ + ": read past the end");
    }
    std::copy_n(bytes_.data() + offset, out.size(), reinterpret_cast<char*>(out.data()));
    return {};
  }
  bool Cached(uint64_t, uint64_t) const override { return true; }

 private:
  const std::string name_, bytes_;
  SourceId id_;
};

}  // namespace sluice::io
