// A source for fuzz targets: nothing may be asked of it that lies beyond its end, as what asks has seen its size.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "base/check.h"
#include "io/byte_source.h"

namespace sluice::formats {

class FuzzSource final : public io::ByteSource {
 public:
  explicit FuzzSource(std::string_view bytes) : bytes_(bytes) {}  // not copied
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return bytes_.size(); }
  io::SourceId id() const override { return {}; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    SLUICE_CHECK(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    std::copy_n(bytes_.data() + offset, out.size(), reinterpret_cast<char*>(out.data()));
    return {};
  }

 private:
  const std::string name_ = "fuzz.bin";
  const std::string_view bytes_;
};

}  // namespace sluice::formats
