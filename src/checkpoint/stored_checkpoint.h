// StoredCheckpoint: tensors that lie as they are in files, of safetensors or PyTorch; behind each stands its stored
// bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "formats/stored_tensor.h"

namespace sluice::checkpoint {

// Filled by one thread, then Finish; immutable and thread-safe from there on.
class StoredCheckpoint final : public Checkpoint {
 public:
  explicit StoredCheckpoint(std::string ref);

  // Returns the file's number, for AddTensor. `name` is within the folder.
  uint32_t AddFile(std::string name, std::shared_ptr<const io::ByteSource> source);
  void AddTensor(uint32_t file, const formats::StoredTensor& tensor);  // names must differ
  void AddProblem(Problem::Severity severity, std::string file, std::string tensor, std::string message);
  void AddSideFile(SideFile file) { side_files_.push_back(std::move(file)); }
  void AddDefinition(std::string path) { definitions_.push_back(std::move(path)); }
  void SetKind(std::string kind) { kind_ = std::move(kind); }  // "safetensors" unless it is set
  void SetConfig(std::shared_ptr<const ModelConfig> config) { config_ = std::move(config); }
  std::vector<Problem>* mutable_problems() { return &problems_; }
  void Finish();

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;

 private:
  struct Place {
    uint64_t offset;
    uint32_t file;
  };
  std::vector<std::shared_ptr<const io::ByteSource>> sources_;
  std::vector<Place> places_;  // after Finish in the catalogue's order
};

}  // namespace sluice::checkpoint
