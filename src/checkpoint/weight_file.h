// WeightFile: the header of one file of a folder, safetensors or PyTorch's, by its name or, where that says nothing, by
// its first bytes.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "formats/safetensors.h"
#include "formats/stored_tensor.h"
#include "formats/torch_file.h"
#include "io/byte_source.h"

namespace sluice::checkpoint {

// .bin, .pt, .pth and .ckpt, but for what trainers write under such names beside a model.
bool IsTorchWeights(std::string_view file_name);

// Immutable; thread-safe.
class WeightFile {
 public:
  static Result<WeightFile> Read(const io::ByteSource& source, std::string_view file_name);

  const char* kind() const { return safetensors() != nullptr ? "safetensors" : "pytorch"; }
  size_t size() const;
  formats::StoredTensor operator[](size_t i) const;  // names live as long as this
  std::vector<formats::TorchFile::Remark> remarks() const;
  const formats::SafetensorsHeader* safetensors() const { return std::get_if<formats::SafetensorsHeader>(&header_); }

 private:
  using Header = std::variant<formats::SafetensorsHeader, formats::TorchFile>;
  explicit WeightFile(Header header) : header_(std::move(header)) {}
  Header header_;
};

}  // namespace sluice::checkpoint
