// Any bytes as a ZIP archive, and as a PyTorch file: opens or is refused, and what opens keeps what the headers
// promise.
#include <string>

#include "base/check.h"
#include "formats/testing/fuzz_source.h"
#include "formats/torch_file.h"
#include "formats/zip_archive.h"

namespace sluice::formats {
namespace {

void CheckError(const Error& error) {
  SLUICE_CHECK(error.code == ErrorCode::kCorrupt || error.code == ErrorCode::kUnsupported);
  SLUICE_CHECK(!error.context.empty() && error.context.front() == "fuzz.bin");
  SLUICE_CHECK(!error.message.empty() && error.message.find('\n') == std::string::npos);
}

bool Resolves(const FuzzSource& source) {
  auto zip = ZipDirectory::Read(source);
  if (!zip) {
    CheckError(zip.error());
    return false;
  }
  if (const auto resolved = zip->ResolveEntries(source); !resolved) {
    CheckError(resolved.error());
    return false;
  }
  uint64_t end = 0;
  for (size_t i = 0; i < zip->size(); ++i) {
    const ZipEntry& entry = (*zip)[i];
    SLUICE_CHECK(entry.header_offset >= end && entry.data_offset > entry.header_offset && entry.method == 0);
    end = entry.data_offset + entry.size_bytes;
    SLUICE_CHECK(end >= entry.data_offset && end <= source.size_bytes());
    SLUICE_CHECK(zip->Find(entry.name) == &entry && !entry.name.starts_with("/"));
    SLUICE_CHECK(("/" + std::string(entry.name) + "/").find("/../") == std::string::npos);
  }
  return true;
}

}  // namespace
}  // namespace sluice::formats

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::formats;
  const FuzzSource source({reinterpret_cast<const char*>(data), size});
  const bool resolves = Resolves(source);
  const auto file = TorchFile::Read(source);
  if (!file) {
    CheckError(file.error());
    return 0;
  }
  SLUICE_CHECK(resolves);
  for (size_t i = 0; i < file->size(); ++i) {
    const StoredTensor tensor = (*file)[i];
    SLUICE_CHECK(tensor.begin <= tensor.end && tensor.end <= size && !tensor.name.empty());
    SLUICE_CHECK(tensor.encoding.BytesOf(tensor.num_elements) == tensor.end - tensor.begin);
  }
  return 0;
}
