#include "checkpoint/weight_file.h"

#include <algorithm>

namespace sluice::checkpoint {

bool IsTorchWeights(std::string_view file_name) {
  const bool ending = file_name.ends_with(".bin") || file_name.ends_with(".pt") || file_name.ends_with(".pth") ||
                      file_name.ends_with(".ckpt");
  return ending && file_name != "training_args.bin" && file_name != "optimizer.pt" && file_name != "scheduler.pt" &&
         !file_name.starts_with("rng_state");
}

Result<WeightFile> WeightFile::Read(const io::ByteSource& source, std::string_view file_name) {
  bool is_torch = IsTorchWeights(file_name);
  if (!is_torch && !file_name.ends_with(".safetensors")) {
    std::string first(std::min<uint64_t>(source.size_bytes(), 64), '\0');
    SLUICE_TRY(source.Read(0, {reinterpret_cast<uint8_t*>(first.data()), first.size()}));
    is_torch = formats::LooksLikeTorch(first);
  }
  if (is_torch) {
    SLUICE_ASSIGN(formats::TorchFile file, formats::TorchFile::Read(source));
    return WeightFile(std::move(file));
  }
  SLUICE_ASSIGN(formats::SafetensorsHeader header, formats::ReadSafetensorsHeader(source));
  return WeightFile(std::move(header));
}

size_t WeightFile::size() const {
  return std::visit([](const auto& header) { return header.size(); }, header_);
}

formats::StoredTensor WeightFile::operator[](size_t i) const {
  return std::visit([i](const auto& header) { return header[i]; }, header_);
}

std::vector<formats::TorchFile::Remark> WeightFile::remarks() const {
  if (safetensors() == nullptr) return std::get<formats::TorchFile>(header_).remarks();
  std::vector<formats::TorchFile::Remark> remarks;
  for (const auto& warning : safetensors()->warnings()) remarks.push_back({true, warning.tensor, warning.message});
  return remarks;
}

}  // namespace sluice::checkpoint
