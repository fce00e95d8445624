#include "cli/checkpoint_view.h"

#include <algorithm>

#include <fmt/format.h>

namespace sluice::cli {

CheckpointView::CheckpointView(std::shared_ptr<const checkpoint::Checkpoint> inner)
    : Checkpoint(*inner), inner_(std::move(inner)) {}

Result<void> CheckpointView::SetConfig(const std::vector<std::string>& assignments) {
  if (assignments.empty()) return {};
  if (config_ == nullptr) return Fail(ErrorCode::kUsage, "--set changes config.json, and " + ref_ + " has none");
  nlohmann::ordered_json json = config_->json();
  for (const std::string& assignment : assignments) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Fail(ErrorCode::kUsage, fmt::format("--set {}: write --set key=value", assignment));
    }
    nlohmann::ordered_json value = nlohmann::ordered_json::parse(assignment.substr(equals + 1), nullptr, false);
    if (value.is_discarded()) value = assignment.substr(equals + 1);
    nlohmann::ordered_json* place = &json;
    std::string key = assignment.substr(0, equals);
    for (size_t dot; (dot = key.find('.')) != std::string::npos; key.erase(0, dot + 1)) {
      place = &(*place)[key.substr(0, dot)];
      if (!place->is_null() && !place->is_object()) {
        return Fail(ErrorCode::kUsage, fmt::format("--set {}: {} is no object", assignment, key.substr(0, dot)));
      }
    }
    if (key.empty()) return Fail(ErrorCode::kUsage, fmt::format("--set {}: the key is empty", assignment));
    (*place)[key] = std::move(value);
  }
  config_ = checkpoint::ModelConfig::FromJson(std::move(json));
  return {};
}

void CheckpointView::SetSideFiles(std::vector<checkpoint::SideFile> files) {
  for (checkpoint::SideFile& file : files) {
    std::erase_if(side_files_, [&](const auto& old) { return old.name == file.name; });
    side_files_.push_back(std::move(file));
  }
  std::ranges::sort(side_files_, {}, &checkpoint::SideFile::name);
}

void CheckpointView::AsWritten(bool folder) {
  embedded_tokenizer_.clear();
  if (folder) return;
  config_ = nullptr;
  side_files_.clear();
}

}  // namespace sluice::cli
