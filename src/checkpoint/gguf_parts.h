// The files of one GGUF model: one, or the parts that llama.cpp's gguf-split makes (x-00001-of-00003.gguf). The first
// has the keys; each has some of the tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_ref.h"
#include "formats/gguf.h"

namespace sluice::checkpoint {

class GgufParts {
 public:
  // `path` may be any of the parts. kNotFound names the parts that are not there; kCorrupt: parts that are not of one
  // model.
  static Result<GgufParts> Open(const std::string& path, const OpenOptions& options);

  const formats::GgufFile& head() const { return *files_.front(); }
  const std::vector<std::shared_ptr<const formats::GgufFile>>& files() const { return files_; }
  struct Tensor {
    const formats::GgufTensor* info;
    const formats::GgufFile* file;
  };
  const std::vector<Tensor>& tensors() const { return tensors_; }  // part by part; names differ

 private:
  Result<void> CheckParts() const;
  Result<void> AddTensors();

  std::vector<std::shared_ptr<const formats::GgufFile>> files_;
  std::vector<Tensor> tensors_;
};

}  // namespace sluice::checkpoint
