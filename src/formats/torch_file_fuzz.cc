// The input is data.pkl of a PyTorch file with three storages: whatever it says, the tensors lie within them.
#include <array>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "formats/testing/fuzz_source.h"
#include "formats/torch_file.h"

namespace sluice::formats {
namespace {

template <class T>
std::string LittleEndian(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

struct Member {
  std::string_view name, data;
};

// Without checksums, so that any pickle will do.
std::string Archive(std::span<const Member> members) {
  std::string out, directory;
  for (const Member& member : members) {
    const std::string middle = std::string(12, '\0') + LittleEndian(static_cast<uint32_t>(member.data.size())) +
                               LittleEndian(static_cast<uint32_t>(member.data.size())) +
                               LittleEndian(static_cast<uint32_t>(member.name.size()));
    directory += std::string("PK\x01\x02\0\0\0\0", 8) + middle + std::string(10, '\0') +
                 LittleEndian(static_cast<uint32_t>(out.size())) + std::string(member.name);
    out += std::string("PK\x03\x04\0\0", 6) + middle + std::string(member.name) + std::string(member.data);
  }
  const std::string entries = LittleEndian(static_cast<uint16_t>(members.size()));
  const std::string begin = LittleEndian(static_cast<uint32_t>(out.size()));
  return out + directory + std::string("PK\x05\x06\0\0\0\0", 8) + entries + entries +
         LittleEndian(static_cast<uint32_t>(directory.size())) + begin + std::string(2, '\0');
}

}  // namespace
}  // namespace sluice::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::formats;
  const std::string first(32, '0'), second(64, '1'), third(6, '2');
  const std::string_view pickle(reinterpret_cast<const char*>(data), size);
  const std::array<Member, 4> members = {
      {{"a/data/0", first}, {"a/data/1", second}, {"a/data/2", third}, {"a/data.pkl", pickle}}};
  const std::string archive = Archive(members);
  const FuzzSource source(archive);
  const auto file = TorchFile::Read(source);
  if (!file) {
    SLUICE_CHECK(file.error().code == sluice::ErrorCode::kCorrupt ||
                 file.error().code == sluice::ErrorCode::kUnsupported);
    SLUICE_CHECK(file.error().message.find('\n') == std::string::npos);
    return 0;
  }
  for (size_t i = 0; i < file->size(); ++i) {
    const StoredTensor tensor = (*file)[i];
    SLUICE_CHECK(!tensor.name.empty());
    SLUICE_CHECK(tensor.encoding.BytesOf(tensor.num_elements) == tensor.end - tensor.begin);
    if (tensor.num_elements == 0) continue;
    std::string bytes(tensor.end - tensor.begin, '\0');
    SLUICE_CHECK(source.Read(tensor.begin, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
    // All of one storage, and of no other byte of the archive.
    SLUICE_CHECK(bytes.front() >= '0' && bytes.front() <= '2');
    SLUICE_CHECK(bytes.find_first_not_of(bytes.front()) == std::string::npos);
  }
  return 0;
}
