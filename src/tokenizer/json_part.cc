#include "tokenizer/json_part.h"

#include <utility>

#include <fmt/format.h>

namespace sluice::tokenizer {

tl::unexpected<Error> JsonPart::Corrupt(std::string message) const {
  return Fail(Error{ErrorCode::kCorrupt, std::move(message), {file_, path_}});
}
tl::unexpected<Error> JsonPart::Unsupported(std::string message) const {
  return Fail(Error{ErrorCode::kUnsupported, std::move(message), {file_, path_}});
}

const nlohmann::ordered_json* JsonPart::Find(const char* key) const {
  if (!value_.is_object()) return nullptr;
  const auto found = value_.find(key);
  return found == value_.end() || found->is_null() ? nullptr : &*found;
}

Result<std::string> JsonPart::String(const char* key, std::optional<std::string> otherwise) const {
  const auto* found = Find(key);
  if (found == nullptr && otherwise) return std::move(*otherwise);
  if (found == nullptr || !found->is_string()) return Corrupt(fmt::format("has no string \"{}\"", key));
  return found->get_ref<const std::string&>();
}

Result<bool> JsonPart::Bool(const char* key, std::optional<bool> otherwise) const {
  const auto* found = Find(key);
  if (found == nullptr && otherwise) return *otherwise;
  if (found == nullptr || !found->is_boolean()) return Corrupt(fmt::format("has no true or false \"{}\"", key));
  return found->get<bool>();
}

Result<uint32_t> JsonPart::Unsigned(const char* key, std::optional<uint32_t> otherwise) const {
  const auto* found = Find(key);
  if (found == nullptr && otherwise) return *otherwise;
  if (found == nullptr || !found->is_number_unsigned() || found->get<uint64_t>() > UINT32_MAX) {
    return Corrupt(fmt::format("has no number \"{}\" from 0 to 2^32 - 1", key));
  }
  return static_cast<uint32_t>(found->get<uint64_t>());
}

Result<JsonPart> JsonPart::Object(const char* key) const {
  const auto* found = Find(key);
  if (found == nullptr || !found->is_object()) return Corrupt(fmt::format("has no object \"{}\"", key));
  return JsonPart(file_, fmt::format("{}.{}", path_, key), *found);
}

Result<std::vector<JsonPart>> JsonPart::Array(const char* key) const {
  const auto* found = Find(key);
  if (found == nullptr || !found->is_array()) return Corrupt(fmt::format("has no array \"{}\"", key));
  std::vector<JsonPart> parts;
  for (size_t i = 0; i < found->size(); ++i) {
    parts.emplace_back(file_, fmt::format("{}.{}[{}]", path_, key, i), (*found)[i]);
  }
  return parts;
}

}  // namespace sluice::tokenizer
