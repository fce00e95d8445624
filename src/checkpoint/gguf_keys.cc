#include "checkpoint/gguf_keys.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include <fmt/format.h>

namespace sluice::checkpoint {

using formats::GgufKey;
using formats::GgufTensor;
using formats::GgufType;

GgufKeys::GgufKeys(const GgufParts& parts, std::string_view architecture, std::vector<Problem>* problems)
    : parts_(parts),
      file_(parts.head()),
      path_(file_.source()->name()),
      prefix_(fmt::format("{}.", architecture)),
      problems_(problems) {}

std::string GgufKeys::Full(std::string_view key) const { return fmt::format("{}{}", prefix_, key); }

tl::unexpected<Error> GgufKeys::Wrong(std::string_view key, std::string message, ErrorCode code) const {
  return Fail(Error{code, std::move(message), {path_, Full(key)}});
}

tl::unexpected<Error> GgufKeys::Missing(std::string_view key) const {
  return Wrong(key, "the key is missing, and nothing can stand for it; convert the model again");
}

void GgufKeys::Report(Problem::Severity severity, std::string message, std::string tensor) const {
  problems_->push_back(
      {severity, std::filesystem::path(path_).filename().string(), std::move(tensor), std::move(message)});
}

Result<uint64_t> GgufKeys::Size(std::string_view name, std::optional<uint64_t> fallback) const {
  const GgufKey* key = file_.FindKey(Full(name));
  if (key == nullptr) {
    if (fallback) return *fallback;
    return Missing(name);
  }
  uint64_t value = 0;
  if (key->type == GgufType::kArray) {
    if (key->count == 0) return Wrong(name, "is an empty array; convert the model again");
    SLUICE_ASSIGN(const std::vector<int64_t> values, file_.ReadIntegers(*key));
    if (std::any_of(values.begin(), values.end(), [&](int64_t v) { return v != values.front(); })) {
      return Wrong(name, "differs from layer to layer, which is not supported yet", ErrorCode::kUnsupported);
    }
    value = static_cast<uint64_t>(std::max<int64_t>(values.front(), 0));
  } else {
    SLUICE_ASSIGN(const std::optional<uint64_t> scalar, file_.GetUnsigned(key->name));
    value = *scalar;
  }
  if (value == 0 || value > std::numeric_limits<uint32_t>::max()) {
    return Wrong(name, fmt::format("is {}, not 1 to 2^32 - 1; convert the model again", value));
  }
  return value;
}

Result<std::optional<double>> GgufKeys::Number(std::string_view name) const {
  SLUICE_ASSIGN(const std::optional<double> number, file_.GetNumber(Full(name)));
  if (number && !(std::isfinite(*number) && *number >= 0)) {
    return Wrong(name, fmt::format("is {}, not a finite number from 0 on; convert the model again", *number));
  }
  return number;
}

const GgufParts::Tensor* GgufKeys::FindTensor(std::string_view name) const {
  const auto& tensors = parts_.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.info->name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

Result<std::optional<std::vector<float>>> GgufKeys::Floats(std::string_view name, uint64_t count) const {
  const GgufParts::Tensor* place = FindTensor(name);
  if (place == nullptr) return std::nullopt;
  const GgufTensor* tensor = place->info;
  const io::ByteSource& source = *place->file->source();
  if (tensor->encoding != quant::F32() || tensor->rank != 1 || tensor->num_elements != count) {
    return Fail(
        Error{ErrorCode::kCorrupt,
              fmt::format("should be {} numbers of type F32, one for each pair that rotary embedding turns, and "
                          "is {} of {}; the file is damaged: fetch it again",
                          count, tensor->num_elements, tensor->encoding.name()),
              {source.name(), std::string(name)}});
  }
  std::vector<float> values(count);
  SLUICE_TRY(source.Read(tensor->offset, {reinterpret_cast<uint8_t*>(values.data()), count * sizeof(float)}));
  return values;
}

}  // namespace sluice::checkpoint
