#include "infer/ids_file.h"

#include <cstring>

#include <fmt/format.h>

#include "formats/safetensors.h"
#include "io/byte_source.h"

namespace sluice::infer {

Result<std::vector<std::vector<uint32_t>>> ReadIdsFile(const std::string& path) {
  SLUICE_ASSIGN(const auto source, io::OpenFile(path));
  SLUICE_ASSIGN(const formats::SafetensorsHeader header, formats::ReadSafetensorsHeader(*source));
  for (size_t i = 0; i < header.size(); ++i) {
    const formats::SafetensorsTensor tensor = header[i];
    if (tensor.name != "input_ids") continue;
    if (tensor.encoding.name() != "I64" || tensor.shape.size() != 2 || tensor.num_elements == 0) {
      return Fail(ErrorCode::kCorrupt,
                  fmt::format("{}: input_ids must be I64 [sequences, tokens] and not empty; it is {} "
                              "of rank {} with {} elements",
                              path, tensor.encoding.name(), tensor.shape.size(), tensor.num_elements));
    }
    std::vector<uint8_t> bytes(tensor.end - tensor.begin);
    SLUICE_TRY(source->Read(tensor.begin, bytes));
    const uint64_t num_sequences = tensor.shape[0], length = tensor.shape[1];
    std::vector<std::vector<uint32_t>> sequences(num_sequences, std::vector<uint32_t>(length));
    for (uint64_t at = 0; at < tensor.num_elements; ++at) {
      int64_t id;
      std::memcpy(&id, bytes.data() + at * sizeof(id), sizeof(id));
      if (id < 0 || id > UINT32_MAX) {
        return Fail(ErrorCode::kUsage, fmt::format("{}: input_ids[{}][{}] is {}: no token has such an id", path,
                                                   at / length, at % length, id));
      }
      sequences[at / length][at % length] = static_cast<uint32_t>(id);
    }
    return sequences;
  }
  return Fail(
      ErrorCode::kCorrupt,
      fmt::format("{}: has no tensor input_ids; write the token ids as I64 [sequences, tokens] under that name", path));
}

}  // namespace sluice::infer
