// CheckpointView: a checkpoint with some of its papers changed: another config, or only what a written output will
// carry.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace sluice::cli {

class CheckpointView final : public checkpoint::Checkpoint {
 public:
  explicit CheckpointView(std::shared_ptr<const checkpoint::Checkpoint> inner);
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override { return inner_->MakeNode(i, graph); }

  // `--set key=value`: value is JSON where it parses, else a string; a dotted key goes into nested objects. kUsage
  // where there is no config, no '=', or the key's parent is no object.
  Result<void> SetConfig(const std::vector<std::string>& assignments);
  // Replaces side files of these names, or adds them.
  void SetSideFiles(std::vector<checkpoint::SideFile> files);
  // As the output will be opened: a folder carries config and side files, a single file neither; tables that live in
  // the container (GGUF's tokenizer) stay behind.
  void AsWritten(bool folder);

 private:
  std::shared_ptr<const checkpoint::Checkpoint> inner_;
};

}  // namespace sluice::cli
