// The input is a file. Whatever it is: no crash; if it is accepted, all that the parser promises holds, another JSON
// parser agrees that the header is JSON, and what our writer makes of it is read back as the same.
#include <cstdlib>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::formats;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  SafetensorsError why = SafetensorsError::kNone;
  const auto header = ParseSafetensorsHeader(file, size, "input", &why);
  SLUICE_CHECK(header.has_value() == (why == SafetensorsError::kNone));
  if (!header) {
    SLUICE_CHECK(header.error().code == sluice::ErrorCode::kCorrupt);
    SLUICE_CHECK(header.error().context.front() == "input");
    SLUICE_CHECK(!header.error().message.empty() && header.error().message.find('\n') == std::string::npos);
    return 0;
  }

  const auto json =
      nlohmann::json::parse(file.substr(8, header->data_begin() - 8), nullptr, /*allow_exceptions=*/false);
  SLUICE_CHECK(json.is_object());
  SLUICE_CHECK(json.size() == header->size() + json.count("__metadata__"));

  uint64_t end = header->data_begin();
  std::vector<SafetensorsOutput> outputs;
  for (size_t i = 0; i < header->size(); ++i) {
    const SafetensorsTensor tensor = (*header)[i];
    SLUICE_CHECK(tensor.begin == end && tensor.end >= tensor.begin);
    SLUICE_CHECK(tensor.encoding.BytesOf(tensor.num_elements) == tensor.end - tensor.begin);
    SLUICE_CHECK(json.at(std::string(tensor.name)).at("shape").size() == tensor.shape.size());
    end = tensor.end;
    outputs.push_back({tensor.name, tensor.encoding, tensor.shape, tensor.end - tensor.begin});
  }
  SLUICE_CHECK(end == size);

  std::map<std::string, std::string> metadata;
  for (size_t i = 0; i < header->metadata_size(); ++i) {
    metadata.emplace(header->metadata(i));
    SLUICE_CHECK(header->FindMetadata(header->metadata(i).first) == header->metadata(i).second);
  }
  const auto text = WriteSafetensorsHeader(outputs, metadata, 4096);
  SLUICE_CHECK(text.has_value() && text->size() % 4096 == 0);
  const auto again = ParseSafetensorsHeader(*text, text->size() + (end - header->data_begin()), "again");
  SLUICE_CHECK(again.has_value() && again->size() == header->size());
  SLUICE_CHECK(again->metadata_size() == header->metadata_size());
  for (size_t i = 0; i < again->size(); ++i) {
    SLUICE_CHECK((*again)[i].name == (*header)[i].name && (*again)[i].encoding == (*header)[i].encoding);
    SLUICE_CHECK((*again)[i].begin - again->data_begin() == (*header)[i].begin - header->data_begin());
  }
  return 0;
}
