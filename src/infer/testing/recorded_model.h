// A made model whose weights' reads are recorded, for tests. Its sizes are such that most bytes lie in whole tiles.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/recording_source.h"

namespace sluice::tests {

struct RecordedModel {
  TempDir dir;
  std::shared_ptr<io::RecordingSource> weights;
  std::shared_ptr<const checkpoint::Checkpoint> model;

  explicit RecordedModel(uint64_t update_seed = 0) {
    const std::string folder = MakeTinyLlama(dir / "model", {.layers = 3,
                                                             .hidden = 512,
                                                             .heads = 8,
                                                             .kv_heads = 4,
                                                             .ffn = 1536,
                                                             .vocab = 2048,
                                                             .update_seed = update_seed});
    checkpoint::OpenOptions open;
    open.open_source = [&](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
      SLUICE_ASSIGN(auto file, io::OpenFile(path));
      weights = std::make_shared<io::RecordingSource>(file);
      return std::shared_ptr<const io::ByteSource>(weights);
    };
    auto opened = checkpoint::OpenCheckpoint(folder, open);
    EXPECT_TRUE(opened) << opened.error().ToString();
    model = *opened;
    weights->Clear();
  }
  uint64_t bytes_of(std::string_view part) const {
    uint64_t bytes = 0;
    for (size_t i = 0; i < model->tensors().size(); ++i) {
      const checkpoint::TensorInfo tensor = model->tensors()[i];
      if (tensor.name.find(part) != std::string_view::npos) bytes += tensor.size_bytes();
    }
    return bytes;
  }
};

}  // namespace sluice::tests
