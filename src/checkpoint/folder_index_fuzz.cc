// The input is an index. Whatever it is: no crash; if it is accepted, its tensors are sorted and findable, and no file
// is outside.
#include <string_view>

#include "base/check.h"
#include "checkpoint/folder_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::checkpoint;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ParseShardName(text);
  const auto index = FolderIndex::Parse(text, "input");
  if (!index) {
    SLUICE_CHECK(!index.error().message.empty() && index.error().context.front() == "input");
    return 0;
  }
  SLUICE_CHECK(index->size() > 0 && !index->files().empty());
  for (size_t i = 0; i < index->size(); ++i) {
    SLUICE_CHECK(i == 0 || index->tensor(i - 1) < index->tensor(i));
    SLUICE_CHECK(index->Find(index->tensor(i)) == i);
    SLUICE_CHECK(index->file_of(i) < index->files().size());
  }
  for (const std::string& file : index->files()) {
    SLUICE_CHECK(file.ends_with(".safetensors") || file.ends_with(".bin"));
    SLUICE_CHECK(file.front() != '/' && !file.starts_with("../"));
    SLUICE_CHECK(file.find("/../") == std::string::npos && file.find('\0') == std::string::npos);
  }
  return 0;
}
