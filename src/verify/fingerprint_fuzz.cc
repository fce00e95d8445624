// The input is a fingerprint's file. Whatever it is: no crash, no endless drawing; an error names the file; what is
// read has a print for each block that its nonce draws, and is written as it was read.
#include <string_view>

#include "base/check.h"
#include "verify/fingerprint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = sluice::verify::ParseFingerprint(text, "input");
  if (!read) {
    SLUICE_CHECK(read.error().code == sluice::ErrorCode::kCorrupt ||
                 read.error().code == sluice::ErrorCode::kUnsupported);
    SLUICE_CHECK(read.error().context.front() == "input" && !read.error().message.empty());
    return 0;
  }
  SLUICE_CHECK(read->prints.size() == read->tensors.size() && read->sample.strata.size() == read->tensors.size());
  for (size_t i = 0; i < read->prints.size(); ++i) {
    SLUICE_CHECK(read->prints[i].size() == read->sample.strata[i].blocks.size());
  }
  SLUICE_CHECK(sluice::verify::ParseFingerprint(sluice::verify::FingerprintFileText(*read), "again").has_value());
  return 0;
}
