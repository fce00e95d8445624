// JsonPart: an object inside a JSON file, and where it stands there, so that errors can name it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace sluice::tokenizer {

// A view: file and value must outlive it.
class JsonPart {
 public:
  JsonPart(const std::string& file, std::string path, const nlohmann::ordered_json& value)
      : file_(file), path_(std::move(path)), value_(value) {}

  const std::string& path() const { return path_; }
  const nlohmann::ordered_json& value() const { return value_; }
  bool Has(const char* key) const { return value_.is_object() && value_.contains(key) && !value_[key].is_null(); }

  // kCorrupt, naming file and path, where a key is of another type, or missing and without a default.
  Result<std::string> String(const char* key, std::optional<std::string> otherwise = std::nullopt) const;
  Result<bool> Bool(const char* key, std::optional<bool> otherwise = std::nullopt) const;
  Result<uint32_t> Unsigned(const char* key, std::optional<uint32_t> otherwise = std::nullopt) const;
  Result<JsonPart> Object(const char* key) const;
  Result<std::vector<JsonPart>> Array(const char* key) const;

  tl::unexpected<Error> Corrupt(std::string message) const;
  tl::unexpected<Error> Unsupported(std::string message) const;
  Error&& In(Error&& error) const { return std::move(error).In(path_).In(file_); }

 private:
  const nlohmann::ordered_json* Find(const char* key) const;
  const std::string& file_;
  std::string path_;
  const nlohmann::ordered_json& value_;
};

}  // namespace sluice::tokenizer
