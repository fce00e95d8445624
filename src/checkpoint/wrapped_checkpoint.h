// WrappedCheckpoint: a checkpoint whose tensors are another's, changed as they are read. It has the other's names,
// files and papers; the catalogue is for the derived class to fill, and the config to replace where it changes.
#pragma once

#include <memory>
#include <utility>

#include "checkpoint/checkpoint.h"

namespace sluice::checkpoint {

class WrappedCheckpoint : public Checkpoint {
 protected:
  explicit WrappedCheckpoint(std::shared_ptr<const Checkpoint> inner) : inner_(std::move(inner)) {
    ref_ = inner_->ref();
    kind_ = inner_->kind();
    embedded_tokenizer_ = inner_->embedded_tokenizer();
    config_ = {inner_, inner_->config()};
    side_files_ = inner_->side_files();
    problems_ = inner_->problems();
    files_ = inner_->files();
    definitions_ = inner_->definitions();
  }

  std::shared_ptr<const Checkpoint> inner_;
};

}  // namespace sluice::checkpoint
