// TorchFile: what PyTorch's torch.save wrote of a model (.bin, .pt, .pth): a ZIP archive with a pickle that says which
// tensors there are, and one entry for each storage. docs/formats/torch.md has the rules and the reasons.
//
// Reads the archive's directory, its local headers and the pickle; of the weights nothing. All of it is checked before
// anything is returned, and nothing of the pickle is executed. Immutable; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/stored_tensor.h"
#include "io/byte_source.h"

namespace sluice::formats {

class TorchFile {
 public:
  // kCorrupt and kUnsupported with the source's name, the entry, the byte or the tensor, and what to do.
  static Result<TorchFile> Read(const io::ByteSource& source);

  TorchFile(TorchFile&&) = default;
  TorchFile& operator=(TorchFile&&) = default;

  size_t size() const { return entries_.size(); }
  StoredTensor operator[](size_t i) const;  // in the order of the state dict; names differ, bytes may be shared

  // Odd, but no reason to refuse.
  struct Remark {
    bool is_warning;  // otherwise a note
    std::string tensor, message;
  };
  const std::vector<Remark>& remarks() const { return remarks_; }

 private:
  friend class TorchFileReader;
  struct Entry {
    std::string name;
    quant::Encoding encoding;
    std::vector<uint64_t> shape;
    uint64_t num_elements, begin, end;
  };
  TorchFile() = default;

  std::vector<Entry> entries_;
  std::vector<Remark> remarks_;
};

// Whether these are the first bytes of a file that TorchFile::Read takes, or of a kind that it refuses by name.
bool LooksLikeTorch(std::string_view first_bytes);

}  // namespace sluice::formats
