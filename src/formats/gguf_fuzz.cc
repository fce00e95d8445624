// Any bytes as a GGUF file: opens or is refused, and then every value that it says it has can be read.
#include <algorithm>
#include <string>

#include "base/check.h"
#include "formats/gguf.h"

namespace sluice::formats {
namespace {

class FuzzSource final : public io::ByteSource {
 public:
  FuzzSource(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_; }
  io::SourceId id() const override { return {}; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    // The header said where things are and was checked against the size: nothing may be asked for beyond it.
    SLUICE_CHECK(offset <= size_ && out.size() <= size_ - offset);
    std::copy_n(data_ + offset, out.size(), out.data());
    return {};
  }

 private:
  const std::string name_ = "fuzz.gguf";
  const uint8_t* data_;
  size_t size_;
};

void Use(const GgufFile& file) {
  for (const GgufKey& key : file.keys()) {
    SLUICE_CHECK(file.FindKey(key.name) == &key);
    SLUICE_CHECK(key.offset + key.size_bytes <= file.source()->size_bytes());
    (void)file.GetUnsigned(key.name);
    (void)file.GetNumber(key.name);
    (void)file.GetBool(key.name);
    (void)file.GetString(key.name);
    if (auto strings = file.ReadStrings(key)) {
      SLUICE_CHECK(strings->size() == key.count);
      for (size_t i = 0; i < strings->size(); ++i) SLUICE_CHECK((*strings)[i].size() <= key.size_bytes);
    }
    if (auto integers = file.ReadIntegers(key)) SLUICE_CHECK(integers->size() == key.count);
    if (auto floats = file.ReadFloats(key)) SLUICE_CHECK(floats->size() == key.count);
  }
  uint64_t bytes = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    SLUICE_CHECK(tensor.size_bytes() == 0 || tensor.offset + tensor.size_bytes() <= file.source()->size_bytes());
    bytes += tensor.size_bytes();
  }
  SLUICE_CHECK(bytes + file.unused_bytes() <= file.source()->size_bytes());  // so no two tensors share a byte
}

}  // namespace
}  // namespace sluice::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  const auto file = formats::GgufFile::Open(std::make_shared<formats::FuzzSource>(data, size));
  if (file) {
    formats::Use(**file);
  } else {
    SLUICE_CHECK(!file.error().message.empty() && !file.error().context.empty());
  }
  return 0;
}
